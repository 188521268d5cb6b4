#!/bin/sh
# Where built tools are kept, as multiactive_fleet::tools::cache_root has it.
echo "${MULTIACTIVE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/multiactive}"
