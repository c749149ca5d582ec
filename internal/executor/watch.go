package executor

import (
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	pollEvery   = 10 * time.Millisecond // where the kernel has no watch to give
	repairEvery = time.Second           // beside a watch, which may lose an event
	restAtLeast = time.Millisecond
	restPerByte = 20 * time.Nanosecond
)

// watchState shows OnState the state file after each change while an apply
// runs. The kernel tells of changes, so what the engine has written is seen
// before it writes again. A large file is followed by a rest, 20 ms for each
// megabyte: its copies may take a few hundredths of the time that the engine
// could use.
func watchState(root *os.Root, s *ApplySpec) (stop func()) {
	if s.OnState == nil {
		return func() {}
	}
	name := statePath(&s.Spec)
	var told <-chan fsnotify.Event
	every := pollEvery
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(filepath.Join(root.Name(), filepath.Dir(name))); err == nil {
			told, every = w.Events, repairEvery
		}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		if w != nil {
			defer w.Close() // for which the kernel takes some 10 ms: nobody waits for it
		}
		defer close(ended)
		last, _ := root.Stat(name)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			case e := <-told:
				if filepath.Base(e.Name) != filepath.Base(name) {
					continue
				}
			}
			now, err := root.Stat(name)
			if err != nil || now.Size() == 0 || now.Size() > maxRead || last != nil && now.ModTime().Equal(last.ModTime()) && now.Size() == last.Size() {
				continue
			}
			if f, err := openRun(root, name); err == nil {
				s.OnState(f)
				f.Close()
				last = now
			}
			select {
			case <-quit:
				return
			case <-time.After(restAtLeast + time.Duration(now.Size())*restPerByte):
			}
		}
	}()
	return func() { close(quit); <-ended }
}
