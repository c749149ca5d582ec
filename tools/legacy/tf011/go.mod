// Terraform 0.11.15, the last with "terraform push". tools/legacy.sh builds it.
// "go mod tidy" breaks it: the tests of its dependencies pull in newer modules
// that no longer compile. After a change: go build -mod=mod, then commit both files.
module interlock/tools/legacy/tf011

go 1.26

require github.com/hashicorp/terraform v0.11.15

require (
	cloud.google.com/go v0.26.0 // indirect
	github.com/Azure/azure-sdk-for-go v10.3.0-beta+incompatible // indirect
	github.com/Azure/go-autorest v9.10.0+incompatible // indirect
	github.com/Azure/go-ntlmssp v0.0.0-20170803034930-c92175d54006 // indirect
	github.com/ChrisTrenkamp/goxpath v0.0.0-20170625215350-4fe035839290 // indirect
	github.com/Unknwon/com v0.0.0-20151008135407-28b053d5a292 // indirect
	github.com/agext/levenshtein v1.2.1 // indirect
	github.com/apparentlymart/go-cidr v0.0.0-20170616213631-2bd8b58cf427 // indirect
	github.com/apparentlymart/go-textseg v0.0.0-20170531203952-b836f5c4d331 // indirect
	github.com/armon/circbuf v0.0.0-20150827004946-bbbad097214e // indirect
	github.com/armon/go-radix v0.0.0-20160115234725-4239b77079c7 // indirect
	github.com/aws/aws-sdk-go v1.16.36 // indirect
	github.com/bgentry/go-netrc v0.0.0-20140422174119-9fd32a8b3d3d // indirect
	github.com/bgentry/speakeasy v0.0.0-20161015143505-675b82c74c0e // indirect
	github.com/blang/semver v0.0.0-20170202183821-4a1e882c79dc // indirect
	github.com/chzyer/readline v0.0.0-20161106042343-c914be64f07d // indirect
	github.com/coreos/go-semver v0.2.0 // indirect
	github.com/coreos/go-systemd v0.0.0-20161114122254-48702e0da86b // indirect
	github.com/coreos/pkg v0.0.0-20160727233714-3ac0863d7acf // indirect
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/dgrijalva/jwt-go v0.0.0-20160617170158-f0777076321a // indirect
	github.com/dylanmei/iso8601 v0.1.0 // indirect
	github.com/gogo/protobuf v0.0.0-20170307180453-100ba4e88506 // indirect
	github.com/golang/protobuf v1.3.2 // indirect
	github.com/google/go-querystring v1.0.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/gophercloud/gophercloud v0.0.0-20190208042652-bc37892e1968 // indirect
	github.com/gophercloud/utils v0.0.0-20190128072930-fbb6ab446f01 // indirect
	github.com/hashicorp/atlas-go v0.0.0-20161107204910-1792bd8de119 // indirect
	github.com/hashicorp/aws-sdk-go-base v0.3.0 // indirect
	github.com/hashicorp/consul v0.0.0-20171026175957-610f3c86a089 // indirect
	github.com/hashicorp/errwrap v1.0.0 // indirect
	github.com/hashicorp/go-checkpoint v0.0.0-20171009173528-1545e56e46de // indirect
	github.com/hashicorp/go-cleanhttp v0.5.0 // indirect
	github.com/hashicorp/go-getter v0.0.0-20180327010114-90bb99a48d86 // indirect
	github.com/hashicorp/go-hclog v0.0.0-20170716174523-b4e5765d1e5f // indirect
	github.com/hashicorp/go-multierror v1.0.0 // indirect
	github.com/hashicorp/go-plugin v0.0.0-20180125190438-e53f54cbf51e // indirect
	github.com/hashicorp/go-retryablehttp v0.5.2 // indirect
	github.com/hashicorp/go-rootcerts v0.0.0-20160503143440-6bb64b370b90 // indirect
	github.com/hashicorp/go-safetemp v0.0.0-20180326211150-b1a1dbde6fdc // indirect
	github.com/hashicorp/go-slug v0.3.0 // indirect
	github.com/hashicorp/go-tfe v0.3.14 // indirect
	github.com/hashicorp/go-uuid v1.0.1 // indirect
	github.com/hashicorp/go-version v1.0.0 // indirect
	github.com/hashicorp/golang-lru v0.5.1 // indirect
	github.com/hashicorp/hcl v0.0.0-20170504190234-a4b07c25de5f // indirect
	github.com/hashicorp/hcl2 v0.0.0-20180308163058-5f8ed954abd8 // indirect
	github.com/hashicorp/hil v0.0.0-20170627220502-fa9f258a9250 // indirect
	github.com/hashicorp/logutils v0.0.0-20150609070431-0dc08b1671f3 // indirect
	github.com/hashicorp/serf v0.8.2-0.20171022020050-c20a0b1b1ea9 // indirect
	github.com/hashicorp/yamux v0.0.0-20160720233140-d1caa6c97c9f // indirect
	github.com/jmespath/go-jmespath v0.0.0-20180206201540-c2b33e8439af // indirect
	github.com/joyent/triton-go v0.0.0-20180313100802-d8f9c0314926 // indirect
	github.com/json-iterator/go v1.1.12 // indirect
	github.com/kardianos/osext v0.0.0-20160811001526-c2c54e542fb7 // indirect
	github.com/lusis/go-artifactory v0.0.0-20160115162124-7e4ce345df82 // indirect
	github.com/masterzen/azure-sdk-for-go v0.0.0-20161014135628-ee4f0065d00c // indirect
	github.com/masterzen/simplexml v0.0.0-20160608183007-4572e39b1ab9 // indirect
	github.com/masterzen/winrm v0.0.0-20180224160350-7e40f93ae939 // indirect
	github.com/mattn/go-colorable v0.0.0-20160220075935-9cbef7c35391 // indirect
	github.com/mattn/go-isatty v0.0.0-20161123143637-30a891c33c7c // indirect
	github.com/mattn/go-shellwords v1.0.1 // indirect
	github.com/mitchellh/cli v0.0.0-20171129193617-33edc47170b5 // indirect
	github.com/mitchellh/colorstring v0.0.0-20150917214807-8631ce90f286 // indirect
	github.com/mitchellh/copystructure v0.0.0-20170525013902-d23ffcb85de3 // indirect
	github.com/mitchellh/go-homedir v0.0.0-20161203194507-b8bc1bf76747 // indirect
	github.com/mitchellh/go-linereader v0.0.0-20141013185533-07bab5fdd958 // indirect
	github.com/mitchellh/go-testing-interface v0.0.0-20170730050907-9a441910b168 // indirect
	github.com/mitchellh/go-wordwrap v0.0.0-20150314170334-ad45545899c7 // indirect
	github.com/mitchellh/hashstructure v0.0.0-20160209213820-6b17d669fac5 // indirect
	github.com/mitchellh/mapstructure v0.0.0-20170307201123-53818660ed49 // indirect
	github.com/mitchellh/panicwrap v0.0.0-20161208170302-ba9e1a65e0f7 // indirect
	github.com/mitchellh/prefixedio v0.0.0-20151214002211-6e6954073784 // indirect
	github.com/mitchellh/reflectwalk v0.0.0-20170726202117-63d60e9d0dbc // indirect
	github.com/modern-go/concurrent v0.0.0-20180228061459-e0a39a4cb421 // indirect
	github.com/modern-go/reflect2 v1.0.2 // indirect
	github.com/nu7hatch/gouuid v0.0.0-20131221200532-179d4d0c4d8d // indirect
	github.com/oklog/run v1.0.0 // indirect
	github.com/packer-community/winrmcp v0.0.0-20180102160824-81144009af58 // indirect
	github.com/pkg/errors v0.0.0-20170505043639-c605e284fe17 // indirect
	github.com/posener/complete v0.0.0-20171219111128-6bee943216c8 // indirect
	github.com/ryanuber/columnize v0.0.0-20161220214920-0fbbb3f0e3fb // indirect
	github.com/satori/uuid v0.0.0-20160927100844-b061729afc07 // indirect
	github.com/svanharmelen/jsonapi v0.0.0-20180618144545-0c0828c3f16d // indirect
	github.com/terraform-providers/terraform-provider-openstack v1.15.0 // indirect
	github.com/ulikunitz/xz v0.5.4 // indirect
	github.com/xanzy/ssh-agent v0.2.0 // indirect
	github.com/xlab/treeprint v0.0.0-20161029104018-1d6e34225557 // indirect
	github.com/zclconf/go-cty v0.0.0-20180302160414-49fa5e03c418 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/crypto v0.0.0-20190308221718-c2843e01d9a2 // indirect
	golang.org/x/net v0.0.0-20190501004415-9ce7a6920f09 // indirect
	golang.org/x/oauth2 v0.0.0-20181203162652-d668ce993890 // indirect
	golang.org/x/sys v0.0.0-20190502145724-3ef323f4f1fd // indirect
	golang.org/x/text v0.3.2 // indirect
	golang.org/x/time v0.0.0-20190308202827-9d24e82272b4 // indirect
	google.golang.org/genproto v0.0.0-20190819201941-24fa4b261c55 // indirect
	gopkg.in/yaml.v2 v2.2.1 // indirect
)

// etcd 3.3.27 drops a codec library that panics at start with Go 1.22 or later;
// the others keep the Google modules of 2018 at versions that fit each other.
require (
	github.com/coreos/etcd v3.3.27+incompatible
	github.com/googleapis/gax-go v2.0.0+incompatible
	go.opencensus.io v0.22.0
	go.uber.org/zap v1.10.0
	google.golang.org/api v0.1.0
	google.golang.org/grpc v1.26.0
)

tool github.com/hashicorp/terraform
