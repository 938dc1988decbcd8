/* SPDX-License-Identifier: MIT */
/// tests/model/spin.pml: places of those who look before they sleep, and who gives them back.
#include "replay_models.h"

#include <string.h>

static struct {
    uint64_t places;
    uint64_t free;
    struct {
        bool looks;
        bool place;  ///< it has one
        bool ending; ///< it gives it back itself, unless that was done
    } threads[REPLAY_THREADS];
} spin;

static void spin_begin(void)
{
    memset(&spin, 0, sizeof(spin));
}

/// The place is given back, or was: who did not do so for itself goes on to wake.
static void given(const struct replay_rec *rec)
{
    if (!spin.threads[rec->thread].ending) {
        replay_expect(rec->thread, 'C', 13, rec->object);
    }
    spin.threads[rec->thread].ending = false;
}

/// L3, L4: whether a thread has a place; L5: it had, and it is free.
static bool give(const struct replay_rec *rec, unsigned of)
{
    static struct {
        bool place;
    } none;
    bool *place = of < REPLAY_THREADS ? &spin.threads[of].place : &none.place;

    if (rec->number == 5) {
        REPLAY_NEED(rec->value == spin.free && spin.free < spin.places, "%llu are free",
                    (unsigned long long)spin.free);
        spin.free++;
        given(rec);
        return true;
    }
    REPLAY_NEED((rec->value != 0) == *place, "it has %s place", *place ? "a" : "no");
    if (!*place) {
        given(rec);
        return true;
    }
    if (rec->number == 4) {
        *place = false;
    }
    replay_expect(rec->thread, 'L', rec->number + 1, rec->object);
    return true;
}

/// L1, L2, L6, L7: its own place.
static bool own(const struct replay_rec *rec)
{
    unsigned me = rec->thread;

    REPLAY_NEED(rec->object == replay_thread(me), "another thread");
    switch (rec->number) {
    case 2:
        REPLAY_NEED(rec->value != 0 && !spin.threads[me].place, "it has a place already");
        spin.threads[me].place = true;
        return true;
    case 6:
        REPLAY_NEED(spin.threads[me].looks, "it does not look");
        spin.threads[me].looks = false;
        spin.threads[me].ending = true;
        replay_expect(rec->thread, 'L', 3, rec->object);
        return true;
    default: // 1, 7
        REPLAY_NEED(!spin.threads[me].looks && rec->value == spin.free &&
                        (spin.free > 0) == (rec->number == 1),
                    "%llu are free, or it looks", (unsigned long long)spin.free);
        if (rec->number == 1) {
            spin.free--;
            spin.threads[me].looks = true;
            replay_expect(rec->thread, 'L', 2, rec->object);
        }
        return true;
    }
}

static bool spin_step(const struct replay_rec *rec)
{
    if (rec->letter == 'C') {
        return true; // As expected.
    }
    switch (rec->number) {
    case 0:
        spin.places = rec->value;
        spin.free = rec->value;
        return true;
    case 3:
    case 4:
    case 5:
        return give(rec, replay_thread_number(rec->object));
    default:
        return own(rec);
    }
}

static bool spin_end(void)
{
    REPLAY_NEED(spin.free == spin.places, "in the end %llu of %llu places are free",
                (unsigned long long)spin.free, (unsigned long long)spin.places);
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        REPLAY_NEED(!spin.threads[i].looks && !spin.threads[i].place, "in the end thread %u looks",
                    i);
    }
    return true;
}

const struct replay_model replay_spin = {
    .name = "spin",
    .letter = 'L',
    .reads = "C13 L",
    .only = "C13 L2 L4 L5",
    .core = "L1 L2 L3 L4 L5 L6",
    .begin = spin_begin,
    .step = spin_step,
    .end = spin_end,
};
