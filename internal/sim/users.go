package sim

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// What one of the other users asks for, again and again.
const (
	userPromptTokens = 256
	userOutputTokens = 128
	mostUsers        = 10_000
)

// users are others than the clients of the server's HTTP side.
type users struct {
	mu   sync.Mutex
	stop []chan struct{} // one for each that there is
	gone sync.WaitGroup
}

// SetUsers lets n other users, from now on, ask for one answer after another. Their requests take slots and time as any
// do and count in /metrics, but there is no record of them.
func (s *Server) SetUsers(n int) error {
	switch {
	case n < 0 || n > mostUsers:
		return fmt.Errorf("sim: %d users, must be 0 to %d", n, mostUsers)
	case s.opts.atOnce():
		return fmt.Errorf("sim: users who are answered at once would ask without end; give Fixed a time")
	}
	u := &s.users
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.stop) > n {
		last := len(u.stop) - 1
		close(u.stop[last])
		u.stop = u.stop[:last]
	}
	for len(u.stop) < n && !s.isClosing() {
		stop := make(chan struct{})
		u.stop = append(u.stop, stop)
		u.gone.Go(func() { s.use(stop) })
	}
	return nil
}

// use is one user, until it is told to stop or the server shuts down.
func (s *Server) use(stop <-chan struct{}) {
	for {
		q := newSequence(userPromptTokens, userOutputTokens, userOutputTokens)
		if !s.submit(q, time.Now()) {
			return
		}
		for int(q.granted.Load()) < q.total {
			if q.over.Load() {
				return
			}
			select {
			case <-q.wake:
			case <-stop:
				s.withdraw(q)
				return
			}
		}
	}
}

// wait returns once no user is there any more, after the server has begun to shut down.
func (u *users) wait() {
	u.mu.Lock()   // whoever adds users now sees that
	u.mu.Unlock() //nolint:staticcheck // nothing is to be done in between
	u.gone.Wait()
}

func (s *Server) changeUsers(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err == nil {
		err = s.SetUsers(n)
	}
	if err != nil {
		badRequest("n", "%v; POST /sim/users?n=4 lets four others ask for one answer after another", err).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
