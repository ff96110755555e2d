package main

import (
	"fmt"
	"sync"
)

// verdict collects what is wrong, and counts what was done. It may be used from many goroutines.
type verdict struct {
	mu     sync.Mutex
	known  map[string]bool
	broken []string
	done   map[string]int
}

func newVerdict() *verdict { return &verdict{known: map[string]bool{}, done: map[string]int{}} }

// fail notes something that is wrong, once, and prints it at once.
func (v *verdict) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known[text] {
		return
	}
	v.known[text] = true
	v.broken = append(v.broken, text)
	const most = 30
	if len(v.broken) <= most {
		fmt.Println("BROKEN:", text)
	}
}

// check notes an error, if there is one.
func (v *verdict) check(what string, err error) {
	if err != nil {
		v.fail("%s: %v", what, err)
	}
}

// count counts something that was done.
func (v *verdict) count(what string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done[what] += n
}
