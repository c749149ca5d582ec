// Command seal is the supervisor of one engine as a program of its own. "make
// build" puts it into the server's binary, which starts it where it would
// otherwise have to start itself.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"interlock/internal/seal"
)

func main() { os.Exit(run(os.Args[1:])) }

// run stands in for the engine before terraform-exec, which asks a binary for
// its version before much else: that is answered here, for another start of a
// process each time.
func run(args []string) int {
	switch {
	case len(args) > 0 && args[0] == "sandbox-exec":
		return seal.Main(args[1:])
	case len(args) > 0 && args[0] == "version":
		fmt.Println(os.Getenv("INTERLOCK_VERSION"))
		return 0
	}
	if os.Getenv("INTERLOCK_SPLIT") == "" {
		if err := unix.Dup2(1, 2); err != nil {
			fmt.Fprintln(os.Stderr, "sandbox:", err)
			return 126
		}
	}
	return seal.Main(args)
}
