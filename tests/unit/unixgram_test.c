/* SPDX-License-Identifier: MIT */
/// Transport unixgram, what comes beside its datagrams: credentials, descriptors, memory files. The
/// parts of the plugin are compiled into the test.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_host.h"
#include "transports/unixgram/control.c"
#include "transports/unixgram/memfd.c"

#define KIB 1024

static int before(void **state)
{
    (void)state;
    fake_reset();
    return 0;
}

static sp_msg *message(size_t len)
{
    unsigned char *body = malloc(len + 1);
    sp_msg *m;

    for (size_t i = 0; i < len; i++) {
        body[i] = (unsigned char)(i * 7 + (i >> 9));
    }
    m = fake_msg("\x80\0\0\1", 4, body, len);
    free(body);
    return m;
}

/* ------------------------------------------------------------------ Memory files */

static void memfd_holds_header_and_body_and_cannot_be_changed(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 300001};

    (void)state;
    for (int i = 0; i < 4; i++) {
        sp_msg *m = message(sizes[i]);
        sp_msg *got = NULL;
        int fd = ugram_memfd_make(m);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);
        assert_int_equal(ftruncate(fd, 1), -1);
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(ugram_memfd_read(fake_host(), fd, 4 + sizes[i], &got), SP_OK);
        assert_int_equal(got->len, 4 + sizes[i]);
        assert_memory_equal(got->data, m->header, 4);
        assert_memory_equal(got->data + 4, m->data, sizes[i]);
        fake_host()->msg_release(got);
        fake_host()->msg_release(m);
        assert_int_equal(close(fd), 0);
    }
    assert_int_equal(fake.msgs_live, 0);
}

static void memfd_larger_than_allowed_is_refused_before_anything_is_allocated(void **state)
{
    sp_msg *m = message(10 * KIB);
    size_t made = fake.msgs_made;
    sp_msg *got = NULL;
    int fd = ugram_memfd_make(m);

    (void)state;
    assert_int_equal(ugram_memfd_read(fake_host(), fd, 10 * KIB + 3, &got), SP_EMSGSIZE);
    assert_int_equal(fake.msgs_made, made);
    assert_null(got);
    assert_int_equal(ugram_memfd_read(fake_host(), fd, 0, &got), SP_OK);
    fake_host()->msg_release(got);
    fake_host()->msg_release(m);
    assert_int_equal(close(fd), 0);
}

static void file_without_every_seal_is_refused(void **state)
{
    static const int seals[] = {0, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_GROW,
                                F_SEAL_WRITE | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_SHRINK};

    (void)state;
    for (int i = 0; i < 5; i++) {
        int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        sp_msg *got = NULL;

        assert_int_equal(pwrite(fd, "data", 4, 0), 4);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        assert_int_equal(ugram_memfd_read(fake_host(), fd, 0, &got), SP_EPROTO);
        assert_int_equal(close(fd), 0);
    }
}

static void file_that_is_no_memory_file_is_refused(void **state)
{
    int fds[2];
    sp_msg *got = NULL;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(ugram_memfd_read(fake_host(), fd, 0, &got), SP_EPROTO);
    assert_int_equal(close(fd), 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(ugram_memfd_read(fake_host(), fds[0], 0, &got), SP_EPROTO);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(close(fds[1]), 0);
}

static void memfd_with_holes_is_refused(void **state)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t made = fake.msgs_made;
    sp_msg *got = NULL;

    (void)state;
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    assert_int_equal(ugram_memfd_read(fake_host(), fd, 0, &got), SP_EPROTO);
    assert_int_equal(fake.msgs_made, made);
    assert_int_equal(close(fd), 0);
}

static void lack_of_memory_is_an_error_and_leaves_nothing(void **state)
{
    sp_msg *m = message(10);
    sp_msg *got = NULL;
    int fd = ugram_memfd_make(m);

    (void)state;
    fake.alloc_left = 0;
    assert_int_equal(ugram_memfd_read(fake_host(), fd, 0, &got), SP_ENOMEM);
    fake.alloc_left = -1;
    fake_host()->msg_release(m);
    assert_int_equal(close(fd), 0);
    assert_int_equal(fake.msgs_live, 0);
}

/* ------------------------------------------------------------------ Beside a datagram */

/// Whether the system left descriptors open that it did not hand over: emulators do.
static bool system_leaks;

static size_t handed_over(struct msghdr *h)
{
    size_t n = 0;

    for (struct cmsghdr *m = CMSG_FIRSTHDR(h); m != NULL; m = CMSG_NXTHDR(h, m)) {
        if (m->cmsg_level == SOL_SOCKET && m->cmsg_type == SCM_RIGHTS) {
            n += (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        }
    }
    return n;
}

/// Sends one byte with `n` descriptors; what the receiver takes out of it.
static struct ugram_control beside(int passcred, size_t n, size_t room)
{
    alignas(struct cmsghdr) unsigned char in[UGRAM_CONTROL];
    alignas(struct cmsghdr) unsigned char out[CMSG_SPACE(64 * sizeof(int))] = {0};
    struct iovec iov = {(char[]){'x'}, 1};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    struct ugram_control c;
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    size_t open_before;
    int fds[64];
    int s[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s), 0);
    assert_int_equal(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &passcred, sizeof(int)), 0);
    for (int i = 0; i < 64; i++) {
        fds[i] = zero;
    }
    if (n > 0) {
        ugram_control_put(&h, out, zero);
        h.msg_controllen = CMSG_SPACE(n * sizeof(int));
        CMSG_FIRSTHDR(&h)->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&h)), fds, n * sizeof(int));
    }
    assert_int_equal(sendmsg(s[0], &h, 0), 1);
    h = (struct msghdr){
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = in, .msg_controllen = room};
    open_before = fake_fds();
    assert_int_equal(recvmsg(s[1], &h, MSG_CMSG_CLOEXEC), 1);
    system_leaks = fake_fds() - open_before > handed_over(&h);
    ugram_control_take(&h, &c);
    assert_int_equal(close(s[0]), 0);
    assert_int_equal(close(s[1]), 0);
    assert_int_equal(close(zero), 0);
    return c;
}

static void credentials_are_the_senders(void **state)
{
    struct ugram_control c = beside(1, 0, UGRAM_CONTROL);

    (void)state;
    assert_true(c.known);
    assert_int_equal(c.who.pid, getpid());
    assert_int_equal(c.who.uid, getuid());
    assert_int_equal(c.who.gid, getgid());
    assert_int_equal(c.fd, -1);
    assert_false(beside(0, 0, UGRAM_CONTROL).known);
}

static void one_descriptor_is_taken(void **state)
{
    struct ugram_control c = beside(1, 1, UGRAM_CONTROL);

    (void)state;
    assert_true(c.known);
    assert_true(c.fd >= 0);
    assert_int_equal(fcntl(c.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(close(c.fd), 0);
}

/// However many come, and however little room there is: none stays open.
static void more_descriptors_are_closed(void **state)
{
    (void)state;
    for (size_t n = 2; n <= 64; n += 31) {
        for (size_t room = 16; room <= UGRAM_CONTROL; room += 4) {
            size_t fds = fake_fds();
            struct ugram_control c = beside((int)(room & 4), n, room);

            assert_int_equal(c.fd, -1);
            if (system_leaks) {
                print_message("skipped: the system leaves open what it does not hand over\n");
                (void)fake_fds_before(state); // They stay open.
                skip();
            }
            assert_int_equal(fake_fds(), fds);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memfd_holds_header_and_body_and_cannot_be_changed, before),
        cmocka_unit_test_setup(memfd_larger_than_allowed_is_refused_before_anything_is_allocated,
                               before),
        cmocka_unit_test_setup(file_without_every_seal_is_refused, before),
        cmocka_unit_test_setup(file_that_is_no_memory_file_is_refused, before),
        cmocka_unit_test_setup(memfd_with_holes_is_refused, before),
        cmocka_unit_test_setup(lack_of_memory_is_an_error_and_leaves_nothing, before),
        cmocka_unit_test_setup(credentials_are_the_senders, before),
        cmocka_unit_test_setup(one_descriptor_is_taken, before),
        cmocka_unit_test_setup(more_descriptors_are_closed, before),
    };

    return cmocka_run_group_tests_name("unixgram", tests, fake_fds_before, fake_fds_after);
}
