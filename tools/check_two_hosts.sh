#!/bin/bash
# Ranks on two hosts: the tokens of `fovea run` over TCP are those of one process, for each way to use ranks.
# The hosts are two network namespaces with host names of their own, joined by a virtual cable and nothing
# else; Open MPI starts its daemon on the second through a stand-in for ssh. Needs root, iproute2, Open MPI;
# where it cannot make the hosts it says so and exits with 77.
#
#   tools/check_two_hosts.sh [BUILD_DIR [MODEL_DIR]]
set -euo pipefail
cd "$(dirname "$0")/.."
fovea=$(realpath "${1:-build}")/fovea
model=$(realpath "${2:-models/fovea-demo}")
first=fovea-a-$$ second=fovea-b-$$ folder=$(mktemp -d)
remove() {
  ip netns delete "$first" 2>/dev/null || true
  ip netns delete "$second" 2>/dev/null || true
  rm -rf "$folder"
}
trap remove EXIT

on_host() {  # NAMESPACE COMMAND...: there, under that host name
  local host=$1
  shift
  ip netns exec "$host" unshare --uts sh -c 'hostname "$0"; exec "$@"' "$host" "$@"
}

skip() {
  echo "skipped: $1" >&2
  exit 77
}
! ldd "$fovea" | grep -q libmpich || skip "fovea is built with MPICH, and this test is for Open MPI"
mpirun --version 2>/dev/null | grep -q 'Open MPI' || skip "mpirun is not Open MPI's"
make_hosts() {
  ip netns add "$first" && ip netns add "$second" &&
    ip link add cable netns "$first" type veth peer name cable netns "$second" || return
  local address=1 host
  for host in "$first" "$second"; do
    ip -n "$host" link set lo up && ip -n "$host" address add "10.77.0.$address/24" dev cable &&
      ip -n "$host" link set cable up && on_host "$host" true || return
    address=$((address + 1))
  done
}
make_hosts 2>"$folder/errors" || skip "no hosts can be made here: $(cat "$folder/errors")"

# As ssh: HOST COMMAND; there is one host to go to.
cat >"$folder/shell" <<END
#!/bin/sh
shift
exec ip netns exec "$second" unshare --uts sh -c 'hostname $second; exec sh -c "\$0"' "\$*"
END
chmod +x "$folder/shell"
printf '10.77.0.1 slots=2\n10.77.0.2 slots=2\n' >"$folder/hosts"

ask="run -m $model --greedy --ignore-eos --max-new-tokens 40 --dtype fp32 --json"
image=tests/golden/one_image/inputs/image0.png
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# How daemons are started and who talks over what. In Open MPI 5 the daemons are PRRTE's, which has names of its own;
# each release ignores those that are not its.
export OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=cable
export OMPI_MCA_plm_rsh_agent=$folder/shell OMPI_MCA_oob_tcp_if_include=cable
export PRTE_MCA_plm_rsh_agent=$folder/shell PRTE_MCA_plm_ssh_agent=$folder/shell PRTE_MCA_prte_if_include=cable
tokens() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["token_ids"])' "$1"; }
bytes_moved() {
  ip netns exec "$first" cat /sys/class/net/cable/statistics/{tx,rx}_bytes | awk '{ sum += $1 } END { print sum }'
}

$fovea $ask --image "$image" "What is this?" >"$folder/alone"
expected=$(tokens "$folder/alone")
# Ranks that all ran on one host would move little: launching an empty program on both takes 4 kB, the least of
# the ways 300 kB.
least_moved=200000
passed=0 failed=0
for ranks in 2 4; do
  for way in "--zero-stage 3" "--tensor-parallel $ranks" "--device-map auto"; do
    before=$(bytes_moved)
    if ! on_host "$first" mpirun --hostfile "$folder/hosts" --map-by node \
      -n "$ranks" "$fovea" $ask $way --image "$image" "What is this?" >"$folder/answer" 2>"$folder/errors"; then
      cat "$folder/errors"
    fi
    moved=$(($(bytes_moved) - before))
    if [ "$(tokens "$folder/answer" 2>/dev/null)" = "$expected" ] && [ "$moved" -gt "$least_moved" ]; then
      echo "$ranks ranks on 2 hosts, $way: tokens of one process; $((moved / 1000)) kB between them"
      passed=$((passed + 1))
    else
      echo "$ranks ranks on 2 hosts, $way: FAILED (other tokens, or only $moved bytes between the hosts)"
      failed=$((failed + 1))
    fi
  done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
