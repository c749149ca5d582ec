package contract

const (
	oneModule   = "/api/v2/organizations/{org}/registry-modules/{registry}/{namespace}/{name}/{provider}"
	allModules  = "/api/v2/organizations/{org}/registry-modules"
	allProvider = "/api/v2/organizations/{org}/registry-providers"
	oneProvider = allProvider + "/{registry}/{namespace}/{name}"
	gpgKeys     = "/api/registry/private/v2/gpg-keys"
	protocol    = "/api/registry/v1/modules/{namespace}/{name}/{provider}"
	protocolOf  = "/api/registry/v1/providers/{namespace}/{name}"
	moduleTests = "/api/v2/organizations/{org}/tests/registry-modules/{registry}/{namespace}/{name}/{provider}"
)

// in the registry names stand where elsewhere ids do.
const inRegistry = "namespace=org name=net "

// The private registry: what is published for an organization, and what its
// members and runs install.
var matrixRegistryRows = []matrixRow{
	{"GET " + allModules, "org.people", "", nil},
	{"POST " + allModules, "org.modules", "", d("registry-modules", attrs{"name": "m{n}", "provider": "aws", "registry-name": "private"})},
	{"GET " + allModules + "/validation", "org.modules", "query=provider=aws&name=x only=OO skip=" + everyMemberBut, nil},
	{"GET " + oneModule, "org.people", inRegistry, nil},
	{"PATCH " + oneModule, "org.modules", inRegistry, d("registry-modules", nil)},
	{"GET " + oneModule + "/version", "org.people", inRegistry + "only=none", nil},
	{"POST " + oneModule + "/versions", "org.modules", inRegistry, d("registry-module-versions", attrs{"version": "1.0.{n}"})},
	{"DELETE " + allModules + "/{registry}/{namespace}/{name}", "org.modules", inRegistry + "only=none", nil},
	{"DELETE " + oneModule, "org.modules", inRegistry + "only=none", nil},
	{"DELETE " + oneModule + "/{version}", "org.modules", inRegistry + "only=none", nil},
	{"GET /api/v2/registry-modules/{module}", "org.people", "", nil},
	{"GET /api/v2/registry-modules/{module}/tag-bindings", "org.people", "", nil},
	{"POST /api/v2/registry-modules/{org}/{name}/{rest...}", "org.modules", "only=none", nil}, // older names of the above
	{"PUT /upload/object/modules/{version}/{capability}", "capability", "", nil},
	{"GET /download/modules/{version}/{capability}/{file}", "capability", "", nil},

	{"POST " + moduleTests + "/test-runs/configuration-versions", "org.modules", inRegistry, nil},
	{"GET " + moduleTests + "/test-runs", "org.modules", inRegistry, nil},
	{"POST " + moduleTests + "/test-runs", "org.modules", inRegistry + "only=none", d("test-runs", nil)},
	{"GET " + moduleTests + "/test-runs/{test}", "org.modules", inRegistry + "only=none", nil},
	{"POST " + moduleTests + "/test-runs/{test}/cancel", "org.modules", inRegistry + "only=none", nil},
	{"POST " + moduleTests + "/test-runs/{test}/force-cancel", "org.modules", inRegistry + "only=none", nil},
	{"GET " + moduleTests + "/vars", "org.modules", inRegistry, nil},
	{"POST " + moduleTests + "/vars", "org.modules", inRegistry, d("vars", attrs{"key": "v{n}", "value": "x", "category": "env"})},
	{"GET " + moduleTests + "/vars/{var}", "org.modules", inRegistry + "only=none", nil},
	{"PATCH " + moduleTests + "/vars/{var}", "org.modules", inRegistry + "only=none", d("vars", nil)},
	{"DELETE " + moduleTests + "/vars/{var}", "org.modules", inRegistry + "only=none", nil},
	// Nothing is in the mirror of this world: whoever may ask is told so.
	{"GET /api/registry/v1/mirror/{host}/{namespace}/{type}/{file}", "anyAU", "host=registry.example.com namespace=acme type=time file=index.json only=none", nil},
	{"GET /download/mirror/{host}/{namespace}/{type}/{version}/{platform}/{capability}/{file}", "capability", "host=registry.example.com namespace=acme type=time version=1.0.0 platform=linux_amd64 file=x.zip", nil},
	{"PUT /upload/object/tests/{config}/{capability}", "capability", "", nil},
	{"GET /logs/tests/{test}/{capability}", "capability", "", nil},

	{"GET " + allProvider, "org.people", "", nil},
	{"POST " + allProvider, "org.providers", "", d("registry-providers", attrs{"name": "p{n}", "namespace": "{org}", "registry-name": "private"})},
	{"GET " + oneProvider, "org.people", inRegistry, nil},
	{"PATCH " + oneProvider, "org.providers", inRegistry, d("registry-providers", nil)},
	{"DELETE " + oneProvider, "org.providers", inRegistry + "only=none", nil},
	{"GET /api/v2/registry-providers/{provider}", "org.people", "provider=registryprovider", nil},
	{"GET /api/v2/registry-providers/{provider}/tag-bindings", "org.people", "provider=registryprovider", nil},
	{"GET " + oneProvider + "/versions", "org.people", inRegistry, nil},
	{"POST " + oneProvider + "/versions", "org.providers", inRegistry, d("registry-provider-versions", attrs{"version": "bad", "key-id": "x", "protocols": []string{"5.0"}})},
	{"GET " + oneProvider + "/versions/{version}", "org.people", inRegistry + "only=none", nil},
	{"DELETE " + oneProvider + "/versions/{version}", "org.providers", inRegistry + "only=none", nil},
	{"GET " + oneProvider + "/versions/{version}/platforms", "org.people", inRegistry + "only=none", nil},
	{"POST " + oneProvider + "/versions/{version}/platforms", "org.providers", inRegistry + "only=none", d("registry-provider-platforms", attrs{"os": "linux", "arch": "amd64", "shasum": "aa", "filename": "x.zip"})},
	{"GET " + oneProvider + "/versions/{version}/platforms/{os}/{arch}", "org.people", inRegistry + "only=none", nil},
	{"DELETE " + oneProvider + "/versions/{version}/platforms/{os}/{arch}", "org.providers", inRegistry + "only=none", nil},
	{"PUT /upload/providers/{version}/shasums/{capability}", "capability", "", nil},
	{"GET /download/providers/{version}/shasums/{capability}", "capability", "", nil},
	{"PUT /upload/providers/{version}/shasums-sig/{capability}", "capability", "", nil},
	{"GET /download/providers/{version}/shasums-sig/{capability}", "capability", "", nil},
	{"PUT /upload/provider-binaries/{platform}/{capability}", "capability", "", nil},
	{"GET /download/provider-binaries/{platform}/{capability}/{file}", "capability", "", nil},

	{"GET " + gpgKeys, "org.see", "query=filter[namespace]={org} skip=RT", nil},
	{"POST " + gpgKeys, "org.providers", "", d("gpg-keys", attrs{"namespace": "{org}", "ascii-armor": "x"})},
	{"GET " + gpgKeys + "/{namespace}/{key}", "org.see", "namespace=org skip=RT only=none", nil},
	{"PATCH " + gpgKeys + "/{namespace}/{key}", "org.providers", "namespace=org only=none", d("gpg-keys", attrs{"namespace": "{org}"})},
	{"DELETE " + gpgKeys + "/{namespace}/{key}", "org.providers", "namespace=org only=none", nil},

	// Nothing is published to the end here: 404 to all, and the same.
	{"GET " + protocol, "org.see", inRegistry + "only=none", nil},
	{"GET " + protocol + "/versions", "org.see", inRegistry + "only=none", nil},
	{"GET " + protocol + "/download", "org.see", inRegistry + "only=none", nil},
	{"GET " + protocol + "/{version}", "org.see", inRegistry + "only=none", nil},
	{"GET " + protocol + "/{version}/download", "org.see", inRegistry + "only=none", nil},
	{"GET " + protocolOf + "/versions", "org.see", inRegistry + "only=none", nil},
	{"GET " + protocolOf + "/{version}/download/{os}/{arch}", "org.see", inRegistry + "only=none", nil},
}

// everyMemberBut leaves the question of who may ask for a free name open for
// members: some do before they ask somebody to publish.
const everyMemberBut = "M0,R,P,W,A,C0,C1,C2,PR,PW,PM,PA,MT,MM,MW,RW,MJ,RJ,MV,MP,PO,MA,MK,MR,OA,ST,BA,TW,RT"
