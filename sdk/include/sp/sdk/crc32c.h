/* SPDX-License-Identifier: MIT */
/// CRC32C (Castagnoli; RFC 3720, appendix B.4): the checksum of transports whose wire has none.
#ifndef SP_SDK_CRC32C_H
#define SP_SDK_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The checksum of what `crc` is the checksum of (0: nothing yet) followed by `n` bytes: so a
/// message in pieces is summed piece by piece. By the processor's instruction where it has one
/// (SSE 4.2, ARMv8), which is found out at run time. [any]
uint32_t sp_crc32c(uint32_t crc, const void *p, size_t n);

/// The same without that instruction. [any]
uint32_t sp_crc32c_plain(uint32_t crc, const void *p, size_t n);

#ifdef __cplusplus
}
#endif

#endif
