package state

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"interlock/internal/tfdata"
)

// Summary is what a state holds, without any value: it is stored in the clear
// beside the version.
type Summary struct {
	Format    int             `json:"format"`
	Managed   int64           `json:"managed"`  // instances of managed resources
	Billable  int64           `json:"billable"` // of these, those that stand for something outside the engine
	Resources []ResourceCount `json:"resources,omitempty"`
	Outputs   []string        `json:"outputs,omitempty"` // names
}

// ResourceCount is how many instances one resource block has.
type ResourceCount struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Count    int    `json:"count"`
	Module   string `json:"module"` // "root" for the root module
	Provider string `json:"provider"`
}

// maxCounts bounds the resource blocks that a summary names; of larger states
// it names the first.
const maxCounts = 2000

func summarize(t tfdata.State) Summary {
	s := Summary{Format: t.Format}
	at := map[[4]string]int{}
	for _, r := range t.List {
		kind := r.Type
		if r.Mode == "data" {
			kind = "data." + kind
		} else {
			s.Managed++
			if kind != "null_resource" && kind != "terraform_data" {
				s.Billable++
			}
		}
		c := ResourceCount{Name: r.Name, Type: kind, Count: 1, Module: cmp.Or(modulePath(r.Module), "root"), Provider: `provider["` + r.Provider + `"]`}
		key := [4]string{c.Module, c.Type, c.Name, c.Provider}
		if i, ok := at[key]; ok {
			s.Resources[i].Count++
		} else if len(s.Resources) < maxCounts {
			at[key] = len(s.Resources)
			s.Resources = append(s.Resources, c)
		}
	}
	for _, o := range t.Outputs {
		s.Outputs = append(s.Outputs, o.Name)
	}
	return s
}

// modulePath says a module's address without the word module: a.b of
// module.a.module.b.
func modulePath(address string) string {
	return strings.ReplaceAll(strings.TrimPrefix(address, "module."), ".module.", ".")
}

func (s Summary) text() string {
	b, _ := json.Marshal(s)
	return string(b)
}

// byModule counts resource kinds by module, and byProvider by provider, in the
// API's spelling of kinds.
func (s Summary) byModule() map[string]map[string]int {
	return s.by(func(r ResourceCount) string { return r.Module })
}

func (s Summary) byProvider() map[string]map[string]int {
	return s.by(func(r ResourceCount) string { return r.Provider })
}

func (s Summary) by(group func(ResourceCount) string) map[string]map[string]int {
	out := map[string]map[string]int{}
	for _, r := range s.Resources {
		g := group(r)
		if out[g] == nil {
			out[g] = map[string]int{}
		}
		out[g][strings.ReplaceAll(r.Type, "_", "-")] += r.Count
	}
	return out
}

// publicSource shortens a provider's address where the host is the engines' own.
func publicSource(p string) string {
	for _, host := range []string{"registry.terraform.io/", "registry.opentofu.org/"} {
		p = strings.TrimPrefix(p, host)
	}
	return p
}

// nameIndex is the key of an instance among several of one name, or "".
func nameIndex(r tfdata.ResourceInstance) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(r.Address, r.Module), r.Type+"."+r.Name)
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	if s, err := strconv.Unquote(rest); err == nil {
		return s
	}
	return rest
}

// sortInstances orders resources as a list of them asks for; false says that
// there is no such order.
func sortInstances(rs []tfdata.ResourceInstance, by string) bool {
	field, dir, _ := strings.Cut(by, ":")
	if strings.HasPrefix(field, "-") {
		field, dir = field[1:], "desc"
	}
	of := map[string]func(tfdata.ResourceInstance) string{
		"":             func(r tfdata.ResourceInstance) string { return r.Address },
		"name":         func(r tfdata.ResourceInstance) string { return r.Name },
		"nameIndex":    func(r tfdata.ResourceInstance) string { return nameIndex(r) },
		"provider":     func(r tfdata.ResourceInstance) string { return r.Provider },
		"providerType": func(r tfdata.ResourceInstance) string { return r.Type },
		"module":       func(r tfdata.ResourceInstance) string { return r.Module },
		"updatedAt":    func(tfdata.ResourceInstance) string { return "" },
	}[field]
	if of == nil || dir != "" && dir != "asc" && dir != "desc" {
		return false
	}
	slices.SortStableFunc(rs, func(a, b tfdata.ResourceInstance) int {
		c := cmp.Or(cmp.Compare(of(a), of(b)), cmp.Compare(a.Address, b.Address))
		if dir == "desc" {
			return -c
		}
		return c
	})
	return true
}
