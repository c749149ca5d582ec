package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"interlock/internal/core"
)

// reason says why a call failed, and no more of the inside of this network than
// the caller could find out from without.
func reason(err error) error {
	if e, ok := errors.AsType[*core.Error](err); ok {
		return core.Wrap(err, e.Kind, e.Msg)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return core.Wrap(err, core.Invalid, "the address did not answer in time")
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return core.Wrap(err, core.Invalid, "the host's name cannot be resolved")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return core.Wrap(err, core.Invalid, "the host's certificate is not valid")
	}
	return core.Wrap(err, core.Invalid, "the address cannot be reached")
}
