#!/bin/sh
# Builds the C guest into the folder $1, with $2 for cargo's target folder: `sh build.sh out ../../target`.
# $3 is the Rust target: x86_64-unknown-none (CPL 3 and CPL 0) or x86_64-unknown-linux-gnu (CPL 3).
set -eu
cd "$(dirname "$0")"
out=$1 cache=$2 target=${3:-x86_64-unknown-none}
mkdir -p "$out"
cargo rustc --quiet -p pvkit-guest-c --crate-type staticlib --profile guest --target "$target" --target-dir "$cache"
case $target in
*-none) levels=PVKIT_NOTE_FLAGS_CPL3\|PVKIT_NOTE_FLAGS_CPL0 ;;
*) levels=PVKIT_NOTE_FLAGS_CPL3 ;;
esac
# No SSE and no red zone, so that the code is fit for CPL 0. The link layout is the unikernel's.
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pic -mno-red-zone \
    -mgeneral-regs-only -DLEVELS="$levels" -I ../../abi/include -I ../../guest-drivers/c-api/include \
    -nostdlib -static -no-pie -Wl,-T,image.ld,-z,max-page-size=4096,--gc-sections,--build-id=none \
    start.S note.c memory.c net.c guest.c "$cache/$target/guest/libpvkit_guest.a" -o "$out/c-guest"
