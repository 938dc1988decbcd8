/* SPDX-License-Identifier: MIT */
/// The bytes of a datagram (doc/wire-datagram.md), written and read. Pure. [any]
#ifndef SP_SDK_DGRAM_WIRE_H
#define SP_SDK_DGRAM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP__DGRAM_HEAD 8      // every datagram's
#define SP__DGRAM_GREETING 64 // CREQ, CACK and DISC with the extension
#define SP__DGRAM_XHEAD 20    // XDATA, in front of its payload
#define SP__DGRAM_LONG 0xFFFF // a length that stands in 32 bits elsewhere

enum sp__dgram_op {
    SP__DGRAM_DATA = 0,
    SP__DGRAM_CREQ = 1,
    SP__DGRAM_CACK = 2,
    SP__DGRAM_DISC = 3,
    SP__DGRAM_MESH = 4,
    SP__DGRAM_XDATA = 16 ///< ours: numbered, one or several messages
};

enum sp__dgram_reason {
    SP__DGRAM_CLOSED = 0,
    SP__DGRAM_TYPE = 1,
    SP__DGRAM_REFUSED = 3,
    SP__DGRAM_SIZE = 4,
    SP__DGRAM_NEGOTIATION = 5,
    SP__DGRAM_INACTIVE = 6,
    SP__DGRAM_PROTOCOL = 7,
    SP__DGRAM_NOBUF = 8
};

/// What the extension says.
#define SP__DGRAM_PACKS 1U          // takes several messages in a datagram
#define SP__DGRAM_FILES 2U          // takes messages as descriptors of files
#define SP__DGRAM_CRCS 4U           // each datagram carries a CRC32C
#define SP__DGRAM_CHALLENGE 0x8000U // a CACK: no connection yet, ask again with this cookie

struct sp__dgram {
    uint8_t op;
    uint16_t type; ///< the sender's protocol
    uint16_t p0;
    uint16_t p1;

    bool extended; ///< a greeting with the extension
    uint16_t features;
    uint32_t payload_max;
    uint32_t file_max; ///< KiB of a message in a file; 0: none
    unsigned char uuid[16];
    uint64_t token;
    uint64_t cookie;

    uint32_t number; ///< XDATA: of its first message
    uint32_t count;  ///< messages in it; DATA: 1
    bool file;       ///< its message is in the file that came with it
    const unsigned char *payload;
    size_t payload_len;
};

enum sp__dgram_fault {
    SP__DGRAM_FINE = 0,
    SP__DGRAM_MALFORMED = -1, ///< to be ignored and counted
    SP__DGRAM_CUT = -2        ///< DATA that says it is longer than it is
};

/// Takes a datagram apart; `out` points into it. `crc`: XDATA and greetings must carry the right
/// one, which begins with this of what stands in front of the datagram. NULL: they need none.
enum sp__dgram_fault sp__dgram_read(const unsigned char *d, size_t len, const uint32_t *crc,
                                    struct sp__dgram *out);

/// Takes the next message of a pack. False: there is none, or (`*at` is NULL then) the pack is not
/// a valid one. sp__dgram_read has checked all of it: then there are `count`.
bool sp__dgram_unpack(const unsigned char **at, const unsigned char *end, const unsigned char **msg,
                      size_t *len);
/// Bytes of the length in front of a message of a pack.
static inline size_t sp__dgram_prefix(size_t len)
{
    return len < SP__DGRAM_LONG ? 2 : 6;
}
/// Writes that length; how many bytes it has.
size_t sp__dgram_pack(unsigned char *out, size_t len);

/// Writes the 8 bytes.
void sp__dgram_head(unsigned char *out, uint8_t op, uint16_t type, uint16_t p0, uint16_t p1);
/// Writes a greeting of SP__DGRAM_GREETING bytes; with its CRC, behind that of what stands in front
/// of it, if `crc` is not NULL.
void sp__dgram_greeting(unsigned char *out, const struct sp__dgram *d, const uint32_t *crc);
/// Writes the SP__DGRAM_XHEAD bytes of `count` messages with `len` bytes of payload; without CRC.
/// No message: one that is in the file that goes along.
void sp__dgram_xhead(unsigned char *out, uint16_t type, uint32_t number, uint32_t count,
                     uint32_t len);

/// The CRC of an XDATA's head, behind that of what stands in front of it: to be continued with the
/// payload; and where it is put.
uint32_t sp__dgram_xcrc(uint32_t front, const unsigned char *head);
void sp__dgram_put_crc(unsigned char *head, uint32_t crc);

/// SipHash-2-4 of some bytes.
uint64_t sp__dgram_hash(const uint64_t key[2], const unsigned char *p, size_t n);

#endif
