/* SPDX-License-Identifier: MIT */
/// Runs a fuzz target where there is no libFuzzer: each file of the corpus, then a number of
/// mutations of them that depend on the seed alone. Arguments: the corpus' folder, [mutations
/// [seed]]. A mutation that ends it badly is left in fuzz-input.
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES 256
#define INPUT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    size_t size;
    uint8_t bytes[INPUT];
};

static struct input corpus[FILES];
static size_t files;
static uint64_t seed;

static size_t any(size_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return below > 0 ? (size_t)(seed >> 33) % below : 0;
}

static void load(const char *folder, const char *name)
{
    char path[4096];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "rb");
    if (f == NULL) {
        (void)fprintf(stderr, "%s cannot be read\n", path);
        return;
    }
    corpus[files].size = fread(corpus[files].bytes, 1, INPUT, f);
    files++;
    (void)fclose(f);
}

/// False: not all of them.
static bool load_all(const char *folder)
{
    struct dirent **names = NULL;
    int n = scandir(folder, &names, NULL, alphasort);
    size_t want = 0;

    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            want++;
            if (files < FILES) {
                load(folder, names[i]->d_name);
            }
        }
        free(names[i]);
    }
    free(names);
    return want > 0 && files == want;
}

static void change(struct input *in)
{
    const struct input *other = &corpus[any(files)];
    size_t at = any(in->size);
    size_t n = other->size > 0 ? 1 + any(other->size) : 0;

    switch (any(5)) {
    case 0: // A bit.
        in->bytes[at] ^= (uint8_t)(1U << any(8));
        break;
    case 1: // A byte.
        in->bytes[at] = (uint8_t)any(256);
        break;
    case 2: // Cut.
        in->size = at;
        break;
    case 3: // Another one behind it.
        n = n < INPUT - in->size ? n : INPUT - in->size;
        memcpy(in->bytes + in->size, other->bytes, n);
        in->size += n;
        break;
    default: // Another one over it.
        n = n < in->size - at ? n : in->size - at;
        memcpy(in->bytes + at, other->bytes, n);
    }
}

static void keep(const struct input *in)
{
    FILE *f = fopen("fuzz-input", "wb");

    if (f != NULL) {
        (void)fwrite(in->bytes, 1, in->size, f);
        (void)fclose(f);
    }
}

int main(int argc, char **argv)
{
    static struct input in;
    long mutations = argc > 2 ? strtol(argv[2], NULL, 10) : 0;

    seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    if (argc < 2 || !load_all(argv[1])) {
        (void)fprintf(stderr, "no corpus, or not all of it\n");
        return 1;
    }
    for (size_t i = 0; i < files; i++) {
        (void)LLVMFuzzerTestOneInput(corpus[i].bytes, corpus[i].size);
    }
    for (long i = 0; i < mutations; i++) {
        in = corpus[any(files)];
        for (size_t n = 1 + any(4); n > 0; n--) {
            change(&in);
        }
        keep(&in);
        (void)LLVMFuzzerTestOneInput(in.bytes, in.size);
    }
    (void)remove("fuzz-input");
    (void)printf("%zu inputs, %ld mutations of them\n", files, mutations);
    return 0;
}
