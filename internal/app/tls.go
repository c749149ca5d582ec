package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// selfSigned returns a certificate for the host of base, signed by a CA that
// is made once in dir. The certificate is made anew when it is about to expire
// or names another host.
func selfSigned(dir, base string) (tls.Certificate, string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	host := u.Hostname()
	caFile, caKey := filepath.Join(dir, "tls-ca.pem"), filepath.Join(dir, "tls-ca-key.pem")
	certFile, keyFile := filepath.Join(dir, "tls-cert.pem"), filepath.Join(dir, "tls-key.pem")
	ca, err := tls.LoadX509KeyPair(caFile, caKey)
	if err != nil {
		t := template("Interlock CA")
		t.IsCA, t.KeyUsage, t.BasicConstraintsValid, t.MaxPathLenZero = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, true, true
		t.NotAfter = t.NotBefore.AddDate(10, 0, 0)
		if ca, err = issue(t, nil, caFile, caKey); err != nil {
			return ca, "", err
		}
	}
	parent, err := x509.ParseCertificate(ca.Certificate[0])
	if err != nil {
		return ca, "", err
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		leaf, perr := x509.ParseCertificate(cert.Certificate[0])
		if perr == nil && leaf.VerifyHostname(host) == nil && time.Until(leaf.NotAfter) > 30*24*time.Hour && leaf.CheckSignatureFrom(parent) == nil {
			return cert, caFile, nil
		}
	}
	t := template(host)
	t.NotAfter = t.NotBefore.AddDate(1, 0, 0)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.DNSNames = []string{"localhost"}
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = append(t.IPAddresses, ip)
	} else if host != "localhost" {
		t.DNSNames = append(t.DNSNames, host)
	}
	cert, err = issue(t, &ca, certFile, keyFile)
	return cert, caFile, err
}

// systemBundles are where systems keep the authorities that they trust.
var systemBundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}

// trustBundle writes what runs trust when the server's certificate is its own
// work: what the server trusts, and authorities of its own, so that an engine
// can read other workspaces' states from it and get providers.
func trustBundle(dir string, caFiles ...string) (string, error) {
	var own []byte
	for _, f := range caFiles {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		own = append(append(own, b...), '\n')
	}
	files := systemBundles
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		files = []string{f}
	}
	var b []byte
	for _, f := range files {
		var err error
		if b, err = os.ReadFile(f); err == nil {
			b = append(b, '\n')
			break
		}
	}
	bundle := filepath.Join(dir, "tls-bundle.pem")
	return bundle, os.WriteFile(bundle, append(b, own...), 0o644)
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour)}
}

// issue makes a key and a certificate, signed by ca or by itself, and writes
// both.
func issue(t *x509.Certificate, ca *tls.Certificate, certFile, keyFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	parent, signer := t, any(key)
	chain := []byte{}
	if ca != nil {
		if parent, err = x509.ParseCertificate(ca.Certificate[0]); err != nil {
			return tls.Certificate{}, err
		}
		signer = ca.PrivateKey
		chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]})
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	certPEM := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), chain...)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	if err := os.WriteFile(certFile, certPEM, 0o644); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}
