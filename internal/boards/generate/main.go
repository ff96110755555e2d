// Command generate writes the Grafana boards into the folder that it is given: `make generate`.
package main

import (
	"fmt"
	"os"

	"github.com/inferprobe/inferprobe/internal/boards"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	if err := boards.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}
