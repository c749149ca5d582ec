// Command terraform-provider-thing is a provider for tests: a thing lives in a
// service on this machine, where it can be changed behind the engine's back.
//
// The service answers GET, PUT and DELETE of /things/NAME with a JSON object of
// colour, size and seen. colour and size are what a configuration says; seen is
// the service's own and changes whenever it likes.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	pschema "github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func main() {
	err := providerserver.Serve(context.Background(), func() provider.Provider { return &things{} },
		providerserver.ServeOpts{Address: "registry.terraform.io/interlock/thing"})
	if err != nil {
		panic(err)
	}
}

type things struct{}

func (*things) Metadata(_ context.Context, _ provider.MetadataRequest, r *provider.MetadataResponse) {
	r.TypeName = "thing"
}

func (*things) Schema(_ context.Context, _ provider.SchemaRequest, r *provider.SchemaResponse) {
	r.Schema = pschema.Schema{Attributes: map[string]pschema.Attribute{"address": pschema.StringAttribute{Required: true}}}
}

func (*things) Configure(ctx context.Context, in provider.ConfigureRequest, r *provider.ConfigureResponse) {
	var address types.String
	r.Diagnostics.Append(in.Config.GetAttribute(ctx, path.Root("address"), &address)...)
	r.ResourceData = address.ValueString()
}

func (*things) DataSources(context.Context) []func() datasource.DataSource { return nil }

func (*things) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return &thing{} }}
}

type thing struct{ address string }

type model struct {
	Name   types.String `tfsdk:"name"`
	Colour types.String `tfsdk:"colour"`
	Size   types.String `tfsdk:"size"`
	Seen   types.String `tfsdk:"seen"`
}

type remote struct {
	Colour string `json:"colour"`
	Size   string `json:"size"`
	Seen   string `json:"seen"`
}

func (*thing) Metadata(_ context.Context, _ resource.MetadataRequest, r *resource.MetadataResponse) {
	r.TypeName = "thing_thing"
}

func (*thing) Schema(_ context.Context, _ resource.SchemaRequest, r *resource.SchemaResponse) {
	keep := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	r.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"name":   schema.StringAttribute{Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()}},
		"colour": schema.StringAttribute{Required: true},
		"size":   schema.StringAttribute{Required: true},
		"seen":   schema.StringAttribute{Computed: true, PlanModifiers: keep},
	}}
}

func (t *thing) Configure(_ context.Context, in resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	t.address, _ = in.ProviderData.(string)
}

// ask sends one request; a thing that is not there is nil.
func (t *thing) ask(ctx context.Context, method, name string, body *remote) (*remote, error) {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, t.address+"/things/"+url.PathEscape(name), &b)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode > 299 {
		return nil, fmt.Errorf("%s of %s: %s: %s", method, name, resp.Status, text)
	}
	out := &remote{}
	if method == http.MethodDelete {
		return nil, nil
	}
	return out, json.Unmarshal(text, out)
}

func (m *model) take(r *remote) {
	m.Colour, m.Size, m.Seen = types.StringValue(r.Colour), types.StringValue(r.Size), types.StringValue(r.Seen)
}

func (t *thing) Create(ctx context.Context, in resource.CreateRequest, r *resource.CreateResponse) {
	var m model
	r.Diagnostics.Append(in.Plan.Get(ctx, &m)...)
	got, err := t.ask(ctx, http.MethodPut, m.Name.ValueString(), &remote{Colour: m.Colour.ValueString(), Size: m.Size.ValueString()})
	if err != nil {
		r.Diagnostics.AddError("The thing was not made", err.Error())
		return
	}
	m.take(got)
	r.Diagnostics.Append(r.State.Set(ctx, m)...)
}

func (t *thing) Read(ctx context.Context, in resource.ReadRequest, r *resource.ReadResponse) {
	var m model
	r.Diagnostics.Append(in.State.Get(ctx, &m)...)
	got, err := t.ask(ctx, http.MethodGet, m.Name.ValueString(), nil)
	switch {
	case err != nil:
		r.Diagnostics.AddError("The thing cannot be read", err.Error())
	case got == nil:
		r.State.RemoveResource(ctx)
	default:
		m.take(got)
		r.Diagnostics.Append(r.State.Set(ctx, m)...)
	}
}

func (t *thing) Update(ctx context.Context, in resource.UpdateRequest, r *resource.UpdateResponse) {
	var m model
	r.Diagnostics.Append(in.Plan.Get(ctx, &m)...)
	got, err := t.ask(ctx, http.MethodPut, m.Name.ValueString(), &remote{Colour: m.Colour.ValueString(), Size: m.Size.ValueString(), Seen: m.Seen.ValueString()})
	if err != nil {
		r.Diagnostics.AddError("The thing was not changed", err.Error())
		return
	}
	m.take(got)
	r.Diagnostics.Append(r.State.Set(ctx, m)...)
}

func (t *thing) Delete(ctx context.Context, in resource.DeleteRequest, r *resource.DeleteResponse) {
	var m model
	r.Diagnostics.Append(in.State.Get(ctx, &m)...)
	if _, err := t.ask(ctx, http.MethodDelete, m.Name.ValueString(), nil); err != nil {
		r.Diagnostics.AddError("The thing was not removed", err.Error())
	}
}
