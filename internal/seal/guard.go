package seal

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
)

// GuardVar is the variable by which the supervisor learns its Guard, as JSON.
const GuardVar = "INTERLOCK_GUARD"

// RefusedFile, of the phase's directory, names the first addresses that were
// refused.
const RefusedFile = "refused"

// Guard says where the connections of a run may not go. Its zero value lets all
// through.
type Guard struct {
	All    bool             `json:",omitempty"` // nowhere at all
	Nets   []netip.Prefix   `json:",omitempty"` // refused whatever the port is
	Points []netip.AddrPort `json:",omitempty"` // refused
	Ports  []uint16         `json:",omitempty"` // refused at every address of this machine
	Here   []netip.Addr     `json:",omitempty"` // this machine's addresses besides those of the loopback
	But    []netip.AddrPort `json:",omitempty"` // reached although Nets has them
	// Sockets are the directories below which sockets with a file are reached. Nil
	// means all that the run sees.
	Sockets []string `json:",omitempty"`
}

// readGuard is the guard that the server wants, nil for none.
func readGuard() (*Guard, error) {
	text := os.Getenv(GuardVar)
	if text == "" {
		return nil, nil
	}
	g := &Guard{}
	if err := json.Unmarshal([]byte(text), g); err != nil {
		return nil, fmt.Errorf("read what the network is to be guarded from: %w", err)
	}
	return g, nil
}

// Refuses tells whether a connection to the address is refused.
func (g *Guard) Refuses(to netip.AddrPort) bool {
	a, port := to.Addr().Unmap().WithZone(""), to.Port()
	// What a gateway to IPv4 takes for an address of that.
	if nat64 := netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96); nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case g.All:
		return true
	case slices.Contains(g.But, netip.AddrPortFrom(a, port)):
		return false
	case slices.ContainsFunc(g.Nets, func(p netip.Prefix) bool { return p.Contains(a) }):
		return true
	case slices.Contains(g.Points, netip.AddrPortFrom(a, port)):
		return true
	}
	// The kernel takes no address for the loopback's.
	return slices.Contains(g.Ports, port) && (a.IsLoopback() || a.IsUnspecified() || slices.Contains(g.Here, a))
}
