package scim

import "net/http"

// config says what we can do (RFC 7643, 5).
func (s *Service) config(*http.Request, Token) (int, any, error) {
	no := map[string]any{"supported": false}
	return 200, map[string]any{
		"schemas":        []string{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"},
		"patch":          map[string]any{"supported": true},
		"bulk":           map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter":         map[string]any{"supported": true, "maxResults": pageMost},
		"changePassword": no, "sort": no, "etag": no,
		"authenticationSchemes": []any{map[string]any{"type": "oauthbearertoken", "name": "Bearer token", "primary": true,
			"description": "A token of the organization's directory, made on the organization's pages."}},
		"meta": map[string]any{"resourceType": "ServiceProviderConfig", "location": s.Base + at + "/ServiceProviderConfig"},
	}, nil
}

func (s *Service) types() []map[string]any {
	one := func(name, path, schema string) map[string]any {
		return map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:ResourceType"}, "id": name, "name": name, "endpoint": path, "schema": schema,
			"meta": map[string]any{"resourceType": "ResourceType", "location": s.Base + at + "/ResourceTypes/" + name}}
	}
	return []map[string]any{one("User", "/Users", userSchema), one("Group", "/Groups", groupSchema)}
}

func (s *Service) resourceTypes(*http.Request, Token) (int, any, error) {
	ts := s.types()
	return 200, list(int64(len(ts)), 1, ts), nil
}

func find(all []map[string]any, id string) (int, any, error) {
	for _, x := range all {
		if x["id"] == id {
			return 200, x, nil
		}
	}
	return 0, nil, fault{http.StatusNotFound, "", "there is no such thing"}
}

func (s *Service) resourceType(r *http.Request, _ Token) (int, any, error) {
	return find(s.types(), r.PathValue("type"))
}

// attribute describes one; more says what differs from an optional text.
func attribute(name string, more map[string]any) map[string]any {
	a := map[string]any{"name": name, "type": "string", "multiValued": false, "required": false, "caseExact": false, "mutability": "readWrite", "returned": "default", "uniqueness": "none"}
	for k, v := range more {
		a[k] = v
	}
	return a
}

func (s *Service) allSchemas() []map[string]any {
	one := func(id, name string, as ...map[string]any) map[string]any {
		return map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Schema"}, "id": id, "name": name, "attributes": as,
			"meta": map[string]any{"resourceType": "Schema", "location": s.Base + at + "/Schemas/" + id}}
	}
	return []map[string]any{
		one(userSchema, "User",
			attribute("userName", map[string]any{"required": true, "uniqueness": "server"}),
			attribute("externalId", map[string]any{"caseExact": true}),
			attribute("displayName", nil),
			attribute("name", map[string]any{"type": "complex", "subAttributes": []any{attribute("formatted", nil), attribute("familyName", nil), attribute("givenName", nil)}}),
			attribute("emails", map[string]any{"type": "complex", "multiValued": true, "subAttributes": []any{attribute("value", nil), attribute("type", nil), attribute("primary", map[string]any{"type": "boolean"})}}),
			attribute("active", map[string]any{"type": "boolean"})),
		one(groupSchema, "Group",
			attribute("displayName", map[string]any{"required": true, "uniqueness": "server"}),
			attribute("externalId", map[string]any{"caseExact": true}),
			attribute("members", map[string]any{"type": "complex", "multiValued": true, "subAttributes": []any{
				attribute("value", map[string]any{"mutability": "immutable"}), attribute("$ref", map[string]any{"type": "reference", "referenceTypes": []string{"User"}, "mutability": "immutable"}), attribute("display", map[string]any{"mutability": "readOnly"})}})),
	}
}

func (s *Service) schemas(*http.Request, Token) (int, any, error) {
	all := s.allSchemas()
	return 200, list(int64(len(all)), 1, all), nil
}

func (s *Service) schema(r *http.Request, _ Token) (int, any, error) {
	return find(s.allSchemas(), r.PathValue("schema"))
}
