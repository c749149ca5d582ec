package app

import (
	"io"
	"strings"
	"testing"
)

// What was let go comes back as it was, also in a program that a loader
// relocated, as this one.
func TestForgottenPagesComeBack(t *testing.T) {
	for range 3 {
		forget()
		if got := strings.ToUpper(strings.Repeat("still here ", 3)); got != "STILL HERE STILL HERE STILL HERE " {
			t.Fatal(got)
		}
		done := make(chan error)
		go func() {
			_, _, err := ParseConfig("server", nil, func(string) string { return "" }, io.Discard, nil)
			done <- err
		}()
		<-done
	}
}
