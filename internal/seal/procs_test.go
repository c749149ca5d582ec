package seal

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
)

func TestDescendants(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "sleep 60 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, _, err := bufio.NewReader(out).ReadLine()
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	want := []int{cmd.Process.Pid, grandchild}
	for name, got := range map[string][]int{"children": descendants(), "table": belowIn(Table(), os.Getpid())} {
		for _, pid := range want {
			if !slices.Contains(got, pid) {
				t.Errorf("%s: %v lacks %d", name, got, pid)
			}
		}
	}
	if n, memory := usage(); n < 2 || memory <= 0 {
		t.Errorf("usage: %d processes, %d bytes", n, memory)
	}
	grand, err := os.FindProcess(grandchild)
	if err == nil {
		err = grand.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if below := descendants(); slices.Contains(below, cmd.Process.Pid) || slices.Contains(below, grandchild) {
		t.Errorf("they have ended, yet %v", below)
	}
}
