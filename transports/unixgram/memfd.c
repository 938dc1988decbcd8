/* SPDX-License-Identifier: MIT */
/// Large messages in memory files. [io]
#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/// Not in every libc's headers: nobody can make the file executable.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

static int memfd_open(void)
{
    int fd = memfd_create("sp", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) { // Before Linux 6.3.
        fd = memfd_create("sp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    return fd < 0 ? -errno : fd;
}

static int memfd_write(int fd, const void *p, size_t n, off_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(fd, (const char *)p + done, n - done, at + (off_t)done);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return put < 0 ? -errno : -EIO;
        }
        done += (size_t)put;
    }
    return SP_OK;
}

int ugram_memfd_make(const sp_msg *m)
{
    int fd = memfd_open();
    int rc;

    if (fd < 0) {
        return fd;
    }
    rc = memfd_write(fd, m->header, m->header_len, 0);
    if (rc == SP_OK) {
        rc = memfd_write(fd, m->data, m->len, m->header_len);
    }
    if (rc == SP_OK && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int memfd_check(int fd, uint64_t max, size_t *size)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return SP_EPROTO;
    }
    if (st.st_size < 0 || (uint64_t)st.st_size > PTRDIFF_MAX ||
        (max != 0 && (uint64_t)st.st_size > max)) {
        return SP_EMSGSIZE;
    }
    if ((uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size) {
        return SP_EPROTO;
    }
    *size = (size_t)st.st_size;
    return SP_OK;
}

int ugram_memfd_read(const sp_host *host, int fd, uint64_t max, sp_msg **m)
{
    size_t size = 0;
    int rc = memfd_check(fd, max, &size);

    if (rc < 0) {
        return rc;
    }
    *m = host->msg_new(size);
    if (*m == NULL) {
        return SP_ENOMEM;
    }
    for (size_t done = 0; done < size && rc == SP_OK;) {
        ssize_t got = pread(fd, (*m)->data + done, size - done, (off_t)done);

        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            rc = got < 0 ? -errno : SP_EPROTO;
        }
    }
    if (rc < 0) {
        host->msg_release(*m);
        *m = NULL;
    }
    return rc;
}
