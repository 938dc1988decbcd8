/* SPDX-License-Identifier: MIT */
/// Who is in a discovery group, and whom of them to dial: a table without clock, sockets or locks.
/// Of two members the one with the larger instance dials, so that there is one connection a pair.
/// One thread at a time.
#ifndef SP_SDK_DGRAM_GROUP_H
#define SP_SDK_DGRAM_GROUP_H

#include <sp/sdk/dgram.h>

#define SP__GROUP_BYTES 64      ///< of an announcement
#define SP__GROUP_BYTES_MAX 512 ///< that is looked at
#define SP__GROUP_FRESH 8       ///< new members taken in one turn
#define SP__GROUP_LIVES 5       ///< intervals of silence after which a member is gone

enum sp__group_op { SP__GROUP_HERE = 1, SP__GROUP_LEAVES = 2 };

struct sp__announcement {
    uint8_t op;
    unsigned char uuid[16];
    uint32_t interval; ///< ms
};

void sp__group_write(unsigned char out[SP__GROUP_BYTES], const struct sp__announcement *a);
/// False: it is none.
bool sp__group_read(const unsigned char *bytes, size_t len, struct sp__announcement *a);

/// Puts a checksum into an announcement and what stands behind it, `len` bytes in all; `crc`: of
/// what stands in front of it. Whether it has the right one.
void sp__group_seal(unsigned char *bytes, size_t len, uint32_t crc);
bool sp__group_sealed(const unsigned char *bytes, size_t len, uint32_t crc);

struct sp__group_member {
    struct sp_dgram_addr addr;
    unsigned char uuid[16];
    int64_t until;   ///< ns; gone, if nothing is heard
    int64_t changed; ///< ns; since when it has this instance
    uint64_t dialer; ///< 0: it is the one that dials
    bool leaving;
};

struct sp__group {
    unsigned char uuid[16]; ///< our own
    struct sp__group_member *members;
    uint32_t n;
    uint32_t cap;
    uint32_t max;
    uint32_t fresh; ///< that may still be taken in this turn
    /// How it dials, and ends that.
    int (*dial)(void *arg, const struct sp_dgram_addr *addr, uint64_t *dialer);
    void (*undial)(void *arg, uint64_t dialer);
    void *arg;
};

/// An announcement came from `from`. False: it was refused: too many, too often, no memory. `now`:
/// ns.
bool sp__group_hear(struct sp__group *g, const struct sp_dgram_addr *from,
                    const struct sp__announcement *a, int64_t now);
/// Begins a turn: members that were silent for too long are gone. `flooded`: others may have said
/// something that was lost among too much else; then only who said that it leaves.
void sp__group_turn(struct sp__group *g, int64_t now, bool flooded);
/// Forgets all of them.
void sp__group_clear(struct sp__group *g);

#endif
