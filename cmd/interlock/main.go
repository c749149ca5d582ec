// Command interlock is the whole platform in one file: the server, and the
// tools that go with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"interlock/internal/app"
	"interlock/internal/seal"
)

// version is set when the binary is built.
var version = "dev"

const usage = `Interlock runs Terraform and OpenTofu for a team.

Usage: interlock COMMAND [FLAGS]

Commands:
  server          start a server (the default store is one directory)
  agent           run phases of an agent pool on this machine
  doctor          check a deployment and say what is wrong
  backup FILE     write everything into one encrypted file, while the server works
  verify FILE     read a backup to its end and say whether all of it is good
  restore FILE    make the installation of a backup in an empty place
  token create    make an API token for a user
  bundle          export or import engines and providers in one signed file
  key rotate      change the encryption key, while servers work
  audit           verify or export the audit trail
  version         print the version

Each command explains its flags with --help.
`

func main() {
	os.Exit(run(os.Args[1:]))
}

// run returns the exit status: 0 done, 1 failed, 2 bad usage.
func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args[0] {
	case "server":
		err = app.ServerCommand(ctx, args[1:], version, os.Stdout)
	case "agent":
		err = app.AgentCommand(ctx, args[1:], version, os.Stdout)
	case "doctor":
		err = app.DoctorCommand(ctx, args[1:], os.Stdout)
	case "backup":
		err = app.BackupCommand(ctx, args[1:], version, os.Stdout)
	case "verify":
		err = app.VerifyCommand(ctx, args[1:], os.Stdout)
	case "restore":
		err = app.RestoreCommand(ctx, args[1:], os.Stdout)
	case "token":
		err = app.TokenCommand(ctx, args[1:], os.Stdout)
	case "bundle":
		err = app.BundleCommand(ctx, args[1:], version, os.Stdout)
	case "key":
		err = app.KeyCommand(ctx, args[1:], os.Stdout)
	case "audit":
		err = app.AuditCommand(ctx, args[1:], os.Stdout)
	case "version", "--version", "-v":
		fmt.Println("interlock", version)
	case "sandbox-exec": // how the server starts an engine
		return seal.Main(args[1:])
	case "help", "--help", "-h":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "interlock: unknown command %q\n\n%s", args[0], usage)
		return 2
	}
	if err == nil {
		return 0
	}
	if u, ok := errors.AsType[app.UsageError](err); ok {
		if u.Msg != "" {
			fmt.Fprintln(os.Stderr, "interlock:", u.Msg)
			return 2
		}
		return 0
	}
	fmt.Fprintln(os.Stderr, "interlock:", err)
	return 1
}
