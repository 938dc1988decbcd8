/* SPDX-License-Identifier: MIT */
/// A bad network in tests. One thread polls the front socket and one socket for each dialer; a
/// datagram that is held is in a list by the time when it is due.
#include "dgram_relay.h"
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RELAY_ROUND 64       // datagrams of a socket before the others have their turn
#define RELAY_LARGEST 65536  // bytes
#define RELAY_ROOM (8 << 20) // bytes that the system may keep for us

/// A datagram that is to go later.
struct relay_held {
    struct relay_held *next;
    int64_t due; ///< ms
    size_t client;
    enum dgram_way way;
    bool overtake; ///< goes behind the next one of its flow
    size_t len;
    char data[];
};

struct relay_client {
    struct sockaddr_storage address;
    socklen_t len;
    int fd; ///< connected to the listener
};

struct dgram_relay {
    pthread_t thread;
    pthread_mutex_t lock; ///< of all below but what is set once
    int front;
    int stop; ///< eventfd
    unsigned port;
    struct sockaddr_storage to;
    socklen_t to_len;
    uint64_t random;
    struct dgram_rules rules[DGRAM_WAYS];
    struct dgram_counts counts[DGRAM_WAYS];
    struct relay_held *held; ///< the first one due first
    size_t clients;
    struct relay_client client[DGRAM_RELAY_CLIENTS];
    char data[RELAY_LARGEST];
};

/* ------------------------------------------------------------------ Chance */

static uint64_t relay_random(struct dgram_relay *r)
{
    uint64_t z = r->random += 0x9E3779B97F4A7C15;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

static bool relay_chance(struct dgram_relay *r, double percent)
{
    return percent > 0 && (double)(relay_random(r) >> 11) * 0x1p-53 * 100 < percent;
}

/* ------------------------------------------------------------------ Passing on */

static void relay_put(struct dgram_relay *r, size_t client, enum dgram_way way, const char *data,
                      size_t len)
{
    const struct relay_client *c = &r->client[client];
    ssize_t n;

    if (way == DGRAM_TO_LISTENER) {
        n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == ECONNREFUSED) { // what is reported is of an earlier one
            n = send(c->fd, data, len, MSG_NOSIGNAL);
        }
    } else {
        n = sendto(r->front, data, len, MSG_NOSIGNAL, (const struct sockaddr *)&c->address, c->len);
    }
    if (n == (ssize_t)len) {
        r->counts[way].sent++;
    } else {
        r->counts[way].refused++;
    }
}

static void relay_hold(struct dgram_relay *r, size_t client, enum dgram_way way, size_t len,
                       int64_t ms, bool overtake)
{
    struct relay_held *h = malloc(sizeof(*h) + len);
    struct relay_held **at = &r->held;

    if (h == NULL) {
        abort();
    }
    *h = (struct relay_held){NULL, check_now() + ms, client, way, overtake, len};
    memcpy(h->data, r->data, len);
    while (*at != NULL && (*at)->due <= h->due) {
        at = &(*at)->next;
    }
    h->next = *at;
    *at = h;
    r->counts[way].held++;
}

static void relay_release(struct dgram_relay *r, struct relay_held **at)
{
    struct relay_held *h = *at;

    *at = h->next;
    r->counts[h->way].held--;
    relay_put(r, h->client, h->way, h->data, h->len);
    free(h);
}

/// What waits for one to overtake it has been overtaken.
static void relay_overtaken(struct dgram_relay *r, size_t client, enum dgram_way way)
{
    for (struct relay_held **at = &r->held; *at != NULL;) {
        struct relay_held *h = *at;

        if (h->overtake && h->client == client && h->way == way) {
            r->counts[way].reordered++;
            relay_release(r, at);
        } else {
            at = &h->next;
        }
    }
}

/// One datagram, in `data`.
static void relay_one(struct dgram_relay *r, size_t client, enum dgram_way way, size_t len)
{
    static const struct dgram_rules none;
    const struct dgram_rules *rules = &r->rules[way];
    struct dgram_counts *counts = &r->counts[way];

    if (rules->data_only && len > 1 && r->data[1] >= 1 && r->data[1] <= 3) {
        rules = &none;
    }
    counts->received++;
    if (relay_chance(r, rules->loss)) {
        counts->lost++;
        return;
    }
    if (relay_chance(r, rules->delay)) {
        counts->delayed++;
        relay_hold(r, client, way, len,
                   1 + (int64_t)(rules->delay_ms > 1 ? relay_random(r) % rules->delay_ms : 0),
                   false);
        return;
    }
    if (relay_chance(r, rules->reorder)) {
        relay_hold(r, client, way, len, DGRAM_RELAY_HOLD, true);
        return;
    }
    relay_put(r, client, way, r->data, len);
    if (relay_chance(r, rules->duplicate)) {
        counts->duplicated++;
        relay_put(r, client, way, r->data, len);
    }
    relay_overtaken(r, client, way);
}

/* ------------------------------------------------------------------ Sockets */

/// A UDP socket with much room, that says what it dropped for want of room.
static int relay_socket(int family)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int room = RELAY_ROOM;
    int on = 1;

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on));
    return fd;
}

/// The dialer of an address, a new one if need be; DGRAM_RELAY_CLIENTS: there is no room.
static size_t relay_client(struct dgram_relay *r, const struct sockaddr_storage *a, socklen_t len)
{
    struct relay_client *c;
    size_t i = 0;

    while (i < r->clients && memcmp(&r->client[i].address, a, len) != 0) {
        i++;
    }
    if (i < r->clients || i == DGRAM_RELAY_CLIENTS) {
        return i;
    }
    c = &r->client[i];
    c->fd = relay_socket(r->to.ss_family);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&r->to, r->to_len) < 0) {
        (void)close(c->fd);
        return DGRAM_RELAY_CLIENTS;
    }
    memcpy(&c->address, a, len);
    c->len = len;
    r->clients++;
    return i;
}

/// Reads one datagram and where it is from; adds up what had no room. -1: none is there.
static ssize_t relay_read(struct dgram_relay *r, int fd, struct sockaddr_storage *from,
                          socklen_t *len, enum dgram_way way)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(uint32_t))];
    } control;
    struct iovec part = {.iov_base = r->data, .iov_len = sizeof(r->data)};
    struct msghdr m = {.msg_name = from,
                       .msg_namelen = sizeof(*from),
                       .msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &m, 0);

    for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; c != NULL; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t dropped; // since the socket is there

            memcpy(&dropped, CMSG_DATA(c), sizeof(dropped));
            r->counts[way].refused = dropped > r->counts[way].refused ? dropped
                                                                      : r->counts[way].refused;
        }
    }
    *len = m.msg_namelen;
    return n;
}

static void relay_front(struct dgram_relay *r)
{
    struct sockaddr_storage from;
    socklen_t from_len;
    ssize_t n;

    for (int i = 0; i < RELAY_ROUND; i++) {
        size_t client;

        n = relay_read(r, r->front, &from, &from_len, DGRAM_TO_LISTENER);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) { // a dialer is gone
            continue;
        }
        client = relay_client(r, &from, from_len);
        if (client < DGRAM_RELAY_CLIENTS) {
            relay_one(r, client, DGRAM_TO_LISTENER, (size_t)n);
        }
    }
}

static void relay_back(struct dgram_relay *r, size_t client)
{
    struct sockaddr_storage from;
    socklen_t from_len;
    ssize_t n;

    for (int i = 0; i < RELAY_ROUND; i++) {
        n = relay_read(r, r->client[client].fd, &from, &from_len, DGRAM_TO_DIALER);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n >= 0) { // otherwise the listener is gone
            relay_one(r, client, DGRAM_TO_DIALER, (size_t)n);
        }
    }
}

/* ------------------------------------------------------------------ The thread */

/// ms until something is due; -1: nothing is held.
static int relay_due(struct dgram_relay *r)
{
    int64_t now = check_now();

    while (r->held != NULL && r->held->due <= now) {
        relay_release(r, &r->held);
    }
    return r->held != NULL ? (int)(r->held->due - now) : -1;
}

static void *relay_run(void *arg)
{
    struct dgram_relay *r = arg;
    struct pollfd items[DGRAM_RELAY_CLIENTS + 2];
    size_t n;
    int ms;

    for (;;) {
        (void)pthread_mutex_lock(&r->lock);
        ms = relay_due(r);
        n = r->clients;
        (void)pthread_mutex_unlock(&r->lock);
        items[0] = (struct pollfd){.fd = r->stop, .events = POLLIN};
        items[1] = (struct pollfd){.fd = r->front, .events = POLLIN};
        for (size_t i = 0; i < n; i++) {
            items[i + 2] = (struct pollfd){.fd = r->client[i].fd, .events = POLLIN};
        }
        (void)poll(items, n + 2, ms);
        if (items[0].revents != 0) {
            return NULL;
        }
        (void)pthread_mutex_lock(&r->lock);
        if (items[1].revents != 0) {
            relay_front(r);
        }
        for (size_t i = 0; i < n; i++) {
            if (items[i + 2].revents != 0) {
                relay_back(r, i);
            }
        }
        (void)pthread_mutex_unlock(&r->lock);
    }
}

/* ------------------------------------------------------------------ Opening and closing */

static void relay_bind(struct dgram_relay *r, int family)
{
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *a = family == AF_INET6 ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4;
    socklen_t len = family == AF_INET6 ? sizeof(a6) : sizeof(a4);

    r->front = relay_socket(family);
    assert_int_equal(bind(r->front, a, len), 0);
    assert_int_equal(getsockname(r->front, a, &len), 0);
    r->port = ntohs(family == AF_INET6 ? a6.sin6_port : a4.sin_port);
}

struct dgram_relay *dgram_relay_open(const struct sockaddr *to, socklen_t len, uint64_t seed)
{
    struct dgram_relay *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    memcpy(&r->to, to, len);
    r->to_len = len;
    r->random = seed;
    r->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(r->stop >= 0);
    relay_bind(r, to->sa_family);
    assert_int_equal(pthread_mutex_init(&r->lock, NULL), 0);
    assert_int_equal(pthread_create(&r->thread, NULL, relay_run, r), 0);
    return r;
}

struct dgram_relay *dgram_relay_local(unsigned port, uint64_t seed)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return dgram_relay_open((struct sockaddr *)&to, sizeof(to), seed);
}

unsigned dgram_relay_port(const struct dgram_relay *r)
{
    return r->port;
}

void dgram_relay_rules(struct dgram_relay *r, enum dgram_way way, const struct dgram_rules *rules)
{
    (void)pthread_mutex_lock(&r->lock);
    r->rules[way] = *rules;
    (void)pthread_mutex_unlock(&r->lock);
}

void dgram_relay_counts(struct dgram_relay *r, enum dgram_way way, struct dgram_counts *counts)
{
    (void)pthread_mutex_lock(&r->lock);
    *counts = r->counts[way];
    (void)pthread_mutex_unlock(&r->lock);
}

size_t dgram_relay_clients(struct dgram_relay *r)
{
    size_t n;

    (void)pthread_mutex_lock(&r->lock);
    n = r->clients;
    (void)pthread_mutex_unlock(&r->lock);
    return n;
}

void dgram_relay_close(struct dgram_relay *r)
{
    uint64_t one = 1;

    if (r == NULL) {
        return;
    }
    (void)!write(r->stop, &one, sizeof(one));
    (void)pthread_join(r->thread, NULL);
    while (r->held != NULL) {
        struct relay_held *h = r->held;

        r->held = h->next;
        free(h);
    }
    for (size_t i = 0; i < r->clients; i++) {
        (void)close(r->client[i].fd);
    }
    (void)close(r->front);
    (void)close(r->stop);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}
