# Sourced by the tools that bring packages of any Debian suite from this machine's own mirror.
#
# Packages are fetched and verified by apt, with a state directory of its own, and unpacked, never
# installed: the machine's packages and its apt stay as they are.
# shellcheck shell=sh

signed_by=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$signed_by" ] || signed_by=

# The URI of the machine's own Debian mirror; nothing where there is none.
mirror() {
    [ -r /etc/os-release ] && command -v apt-get >/dev/null || return 0
    # shellcheck source=/dev/null
    (. /etc/os-release && [ "$ID" = debian ] && apt-get indextargets \
        --format "\$(RELEASE) \$(REPO_URI)" 'Created-By: Packages' 'Component: main' |
        awk -v codename="${VERSION_CODENAME:-sid}" \
            '$1 ~ "^(" codename "|oldstable|stable|testing|unstable|sid)$" { print $2; exit }')
}

# private_apt DIRECTORY SUITE URI: an apt that sees one suite and writes nothing outside DIRECTORY.
# What the machine's configuration runs after an update is left out.
private_apt() {
    mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" "$1/sources"
    : >"$1/status"
    cat >"$1/sources/suite.sources" <<END
Types: deb
URIs: $3
Suites: $2
Components: main
Architectures: $(dpkg --print-architecture)
Targets: Packages
Languages: none
${signed_by:+Signed-By: $signed_by}
END
    cat >"$1/apt.conf" <<END
#clear APT::Update;
APT::Sandbox::User "root";
Dir::State "$1/state";
Dir::State::status "$1/status";
Dir::Cache "$1/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$1/sources";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::preferences "/dev/null";
END
}

# What a tool calls once it has made `$work` a private apt.
apt_get() { apt-get -qq -c "$work/apt.conf" "$@" >/dev/null 2>"$work/complaints"; }
complaint() { sed -n '/^[EW]:/{p;q;}' "$work/complaints"; }
