/* SPDX-License-Identifier: MIT */
/// Devices in tests. See relay.h.
#include "relay.h"

#include <stdlib.h>

sp_socket relay_raw(const char *protocol)
{
    const char *in_place = getenv("SP_CHECK_IN_PLACE");
    sp_socket s = {0};

    check_ok(sp_open_raw(&s, protocol));
    check_ok(sp_set_int(s.id, "in-place", in_place != NULL ? atoi(in_place) : 1));
    check_ok(sp_set_int(s.id, "reconnect-time-min", 5));
    check_ok(sp_set_int(s.id, "reconnect-time-max", 50));
    check_ok(sp_set_int(s.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_set_int(s.id, "send-timeout", CHECK_SOON));
    return s;
}

void relay_open(struct relay *r, const char *front, const char *back, const char *transport,
                const char *to)
{
    *r = (struct relay){.a = relay_raw(front), .b = relay_raw(back)};
    check_listen(r->a, transport, r->front, NULL);
    if (to != NULL) {
        check_ok(sp_dial(r->b, to, NULL, 0));
    } else {
        check_listen(r->b, transport, r->back, NULL);
    }
    check_ok(sp_op_new(&r->op, NULL, NULL));
    check_ok(sp_op_device(r->op, r->a, r->b));
}

void relay_close(struct relay *r)
{
    check_rest(r->a);
    check_rest(r->b);
    assert_int_equal(sp_op_result(r->op), SP_EAGAIN);
    check_ok(sp_op_cancel(r->op));
    check_rc(SP_ECANCELED, sp_op_wait(r->op));
    sp_op_free(r->op);
    check_ok(sp_close(r->a));
    check_ok(sp_close(r->b));
}

void relay_chain(struct relay *r, size_t n, const char *front, const char *back,
                 const char *transport, const char *to)
{
    for (size_t i = n; i > 0; i--) {
        relay_open(&r[i - 1], front, back, transport, to);
        to = r[i - 1].front;
    }
}

void relay_chain_close(struct relay *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        relay_close(&r[i]);
    }
}
