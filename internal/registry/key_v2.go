package registry

import (
	"net/http"
	"strings"
	"time"

	"interlock/internal/jsonapi"
	"interlock/internal/web"
)

func (s *Service) keyRoutes(rt *web.Router) {
	const keys = "/api/registry/private/v2/gpg-keys"
	rt.V2("GET "+keys, 200, s.v2Keys)
	rt.V2("POST "+keys, 201, s.v2CreateKey)
	rt.V2("GET "+keys+"/{namespace}/{key}", 200, s.v2Key)
	rt.V2("PATCH "+keys+"/{namespace}/{key}", 200, s.v2MoveKey)
	rt.V2("DELETE "+keys+"/{namespace}/{key}", 204, s.v2DeleteKey)
}

type keyAttributes struct {
	AsciiArmor     string    `json:"ascii-armor"`
	CreatedAt      time.Time `json:"created-at"`
	KeyID          string    `json:"key-id"`
	Namespace      string    `json:"namespace"`
	Source         string    `json:"source"`
	SourceURL      *string   `json:"source-url"`
	TrustSignature string    `json:"trust-signature"`
	UpdatedAt      time.Time `json:"updated-at"`
}

func keyResource(k Key) jsonapi.Resource {
	return jsonapi.Resource{ID: string(k.ID), Type: "gpg-keys",
		Attributes: keyAttributes{AsciiArmor: k.Armor, CreatedAt: k.CreatedAt, KeyID: k.KeyID, Namespace: k.Namespace, UpdatedAt: k.UpdatedAt},
		Links:      map[string]any{"self": path("/api/registry/private/v2/gpg-keys", k.Namespace, k.KeyID)}}
}

func (s *Service) v2Keys(r *http.Request) (*jsonapi.Doc, error) {
	p, err := jsonapi.PageOf(r)
	if err != nil {
		return nil, err
	}
	var namespaces []string
	for _, v := range r.URL.Query()["filter[namespace]"] {
		for n := range strings.SplitSeq(v, ",") {
			if n = strings.TrimSpace(n); n != "" {
				namespaces = append(namespaces, n)
			}
		}
	}
	ks, total, err := s.Keys(r.Context(), namespaces, p)
	if err != nil {
		return nil, err
	}
	return paged(r, ks, p, total, keyResource), nil
}

func (s *Service) v2CreateKey(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Namespace  string `json:"namespace"`
		AsciiArmor string `json:"ascii-armor"`
	}
	if _, err := jsonapi.Decode(r.Body, "gpg-keys", &in); err != nil {
		return nil, err
	}
	k, err := s.CreateKey(r.Context(), in.Namespace, in.AsciiArmor)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(keyResource(k)), nil
}

func (s *Service) v2Key(r *http.Request) (*jsonapi.Doc, error) {
	k, err := s.Key(r.Context(), r.PathValue("namespace"), r.PathValue("key"))
	if err != nil {
		return nil, err
	}
	return jsonapi.One(keyResource(k)), nil
}

func (s *Service) v2MoveKey(r *http.Request) (*jsonapi.Doc, error) {
	var in struct {
		Namespace string `json:"namespace"`
	}
	if _, err := jsonapi.Decode(r.Body, "gpg-keys", &in); err != nil {
		return nil, err
	}
	k, err := s.MoveKey(r.Context(), r.PathValue("namespace"), r.PathValue("key"), in.Namespace)
	if err != nil {
		return nil, err
	}
	return jsonapi.One(keyResource(k)), nil
}

func (s *Service) v2DeleteKey(r *http.Request) (*jsonapi.Doc, error) {
	return nil, s.DeleteKey(r.Context(), r.PathValue("namespace"), r.PathValue("key"))
}
