/* SPDX-License-Identifier: MIT */
/// The tables of doc/prd/api/options.md.
#include "option_doc.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 8
#define MINUS "\xE2\x88\x92"
#define TO "\xE2\x80\xA6"

struct doc {
    struct option_row *rows;
    unsigned n;
    unsigned max;
    char section[32];
    char heads[COLUMNS][32]; ///< of the table that is read
    unsigned columns;
};

static char *trim(char *s)
{
    size_t n;

    while (isspace((unsigned char)*s)) {
        s++;
    }
    for (n = strlen(s); n > 0 && isspace((unsigned char)s[n - 1]); n--) {
    }
    s[n] = '\0';
    return s;
}

/// "−1", "1,000,000", "0600", "max", "2^47", "2^63 − 1".
static bool read_number(const char *s, int64_t *v)
{
    bool negative = strncmp(s, MINUS, strlen(MINUS)) == 0;
    char digits[32];
    size_t n = 0;
    char *end;

    s += negative ? strlen(MINUS) : 0;
    if (strncmp(s, "max", 3) == 0) {
        *v = INT32_MAX;
        return true;
    }
    if (strncmp(s, "2^", 2) == 0) {
        uint64_t power = UINT64_C(1) << strtoul(s + 2, &end, 10);

        *v = (int64_t)(strstr(end, MINUS " 1") != NULL ? power - 1 : power);
        return true;
    }
    for (; (isdigit((unsigned char)*s) || *s == ',') && n < sizeof(digits) - 1; s++) {
        if (*s != ',') {
            digits[n++] = *s;
        }
    }
    digits[n] = '\0';
    *v = (int64_t)strtoll(digits, &end, digits[0] == '0' ? 8 : 10);
    *v = negative ? -*v : *v;
    return n > 0;
}

static void read_values(struct option_row *row)
{
    char copy[64];
    char *to;

    (void)snprintf(copy, sizeof(copy), "%s", row->range);
    if (strcmp(copy, "0, 1") == 0) {
        row->max = 1;
        row->number = read_number(row->def, &row->def_value);
        return;
    }
    to = strstr(copy, TO);
    if (to == NULL) {
        return;
    }
    *to = '\0';
    row->number = read_number(trim(copy), &row->min) &&
                  read_number(trim(to + strlen(TO)), &row->max) &&
                  read_number(row->def, &row->def_value);
}

static const char *cell(const struct doc *doc, char **cells, const char *head)
{
    for (unsigned i = 0; i < doc->columns; i++) {
        if (strcmp(doc->heads[i], head) == 0) {
            return cells[i];
        }
    }
    return "";
}

static void add_row(struct doc *doc, char **cells, const char *owner, bool raw, const char *name)
{
    struct option_row *row = &doc->rows[doc->n];
    const char *type = cell(doc, cells, "type");

    if (doc->n >= doc->max) {
        abort();
    }
    doc->n++;
    *row = (struct option_row){.raw = raw};
    (void)snprintf(row->section, sizeof(row->section), "%s", doc->section);
    (void)snprintf(row->owner, sizeof(row->owner), "%s", owner);
    (void)snprintf(row->name, sizeof(row->name), "%s", name);
    (void)snprintf(row->type, sizeof(row->type), "%s",
                   type[0] != '\0' ? type : cell(doc, cells, "unit"));
    (void)snprintf(row->def, sizeof(row->def), "%s", cell(doc, cells, "default"));
    (void)snprintf(row->range, sizeof(row->range), "%s", cell(doc, cells, "range"));
    read_values(row);
}

/// Each name of a row for each of its owners.
static void add_rows(struct doc *doc, char **cells)
{
    const char *protocol = cell(doc, cells, "protocol");
    char owners[128];
    char *next = NULL;
    bool raw;

    (void)snprintf(owners, sizeof(owners), "%s",
                   protocol[0] != '\0' ? protocol : cell(doc, cells, "scheme"));
    raw = strstr(owners, "raw too") != NULL;
    for (char *o = strtok_r(owners[0] != '\0' ? owners : strcpy(owners, " "), ",", &next);
         o != NULL; o = strtok_r(NULL, ",", &next)) {
        char names[128];
        char *more = NULL;

        o = trim(o);
        if (strcmp(o, "raw too") == 0) {
            continue;
        }
        (void)snprintf(names, sizeof(names), "%s", cell(doc, cells, "name"));
        for (char *n = strtok_r(names, "`, ", &more); n != NULL; n = strtok_r(NULL, "`, ", &more)) {
            add_row(doc, cells, o, raw, n);
        }
    }
}

static void read_table_line(struct doc *doc, char *line)
{
    char *cells[COLUMNS] = {NULL};
    unsigned n = 0;
    char *at = line + 1;

    for (char *bar; n < COLUMNS && (bar = strchr(at, '|')) != NULL; at = bar + 1) {
        *bar = '\0';
        cells[n++] = trim(at);
    }
    for (unsigned i = n; i < COLUMNS; i++) {
        cells[i] = line + strlen(line);
    }
    if (doc->columns == 0) {
        doc->columns = n;
        for (unsigned i = 0; i < n; i++) {
            (void)snprintf(doc->heads[i], sizeof(doc->heads[i]), "%s", cells[i]);
        }
    } else if (strncmp(cells[0], "---", 3) != 0) {
        add_rows(doc, cells);
    }
}

unsigned option_doc(struct option_row *rows, unsigned max)
{
    struct doc doc = {.rows = rows, .max = max};
    FILE *f = fopen(SP_TEST_SOURCE_DIR "/doc/prd/api/options.md", "re");
    char line[512];

    if (f == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "## ", 3) == 0) {
            (void)snprintf(doc.section, sizeof(doc.section), "%.31s", trim(line + 3));
        }
        if (line[0] == '|') {
            read_table_line(&doc, line);
        } else {
            doc.columns = 0;
        }
    }
    (void)fclose(f);
    return doc.n;
}
