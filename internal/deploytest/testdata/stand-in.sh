#!/usr/bin/env bash
# stand-in.sh IMAGE makes a stand-in for a base image of the Dockerfile, docker.io/library/{golang,rust}:VERSION-SUITE,
# for machines that reach package registries but no container registry: Debian's packages with this machine's Go or Rust.
set -euo pipefail
image=$1
suite=${image##*-}
version=${image##*:} version=${version%-*}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

case $image in
*/golang:*)
  have=$(go env GOVERSION) have=${have#go} from=$(go env GOROOT) to=usr/local/go
  ;;
*/rust:*)
  have=$(rustc --version | cut -d' ' -f2) from=$(rustc --print sysroot) to=usr/local/rust
  ;;
*)
  echo "stand-in.sh: $image is neither golang nor rust" >&2
  exit 2
  ;;
esac
if [ "$have" != "$version" ]; then
  echo "stand-in.sh: $image needs version $version, and this machine has $have" >&2
  exit 1
fi

debootstrap --variant=minbase --include=build-essential,ca-certificates "$suite" "$root" >&2
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,locale,man}
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # a proxy may have a certificate of its own
cp -a "$from" "$root/$to"

container=$(buildah from scratch)
buildah copy -q "$container" "$root" / >/dev/null
buildah config --env "PATH=/go/bin:/$to/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  --env GOPATH=/go --env GOTOOLCHAIN=local "$container"
buildah commit -q "$container" "$image"
buildah rm "$container" >/dev/null
