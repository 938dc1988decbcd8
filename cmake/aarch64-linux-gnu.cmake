# SPDX-License-Identifier: MIT
# Toolchain for aarch64 on another Debian machine: Debian's cross compiler, the sysroot that aarch64-sysroot.sh makes,
# and qemu-user, which runs what was built.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)

get_filename_component(CMAKE_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../build/sysroot-aarch64" ABSOLUTE)
if(NOT EXISTS "${CMAKE_SYSROOT}/complete")
    message(FATAL_ERROR "the sysroot is missing: run cmake/aarch64-sysroot.sh (or make aarch64)")
endif()
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L "${CMAKE_SYSROOT}")

# The machine's programs, the sysroot's libraries.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
