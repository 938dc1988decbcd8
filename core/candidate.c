/* SPDX-License-Identifier: MIT */
/// Candidates: what they provide, and opening them to be sure. Called under the registry's mutex.
#include "candidate.h"

#include "loader.h"
#include "plugin_check.h"

#include <string.h>

void sp__candidate_examine(struct sp__candidate *c)
{
    const sp_plugin *desc = NULL;

    if (c->examined || c->err < 0) {
        return;
    }
    c->examined = true;
    c->err = sp__loader_open(c->path, &desc, &c->why);
    if (c->err == SP_OK) {
        c->err = sp__check_plugin(desc, &c->why);
    }
    if (c->err == SP_OK && c->manifest != NULL) {
        c->err = sp__manifest_match(c->manifest, desc, &c->why);
    }
    if (c->err == SP_OK) {
        c->desc = desc;
    }
}

bool sp__candidate_claim(const struct sp__candidate *c, size_t i, sp_kind *kind, const char **name)
{
    if (c->manifest != NULL && i < c->manifest->count) {
        *kind = c->manifest->exports[i].kind;
        *name = c->manifest->exports[i].name;
        return true;
    }
    if (c->manifest == NULL && c->desc != NULL && i < c->desc->export_count) {
        *kind = sp__export_at(c->desc, i)->kind;
        *name = sp__export_at(c->desc, i)->name;
        return true;
    }
    return false;
}

bool sp__candidate_claims(const struct sp__candidate *c, sp_kind kind, const char *name)
{
    const char *claimed;
    sp_kind of;

    for (size_t i = 0; sp__candidate_claim(c, i, &of, &claimed); i++) {
        if ((kind == 0 || of == kind) && strcmp(claimed, name) == 0) {
            return true;
        }
    }
    return false;
}

bool sp__candidate_silent(const struct sp__candidate *c)
{
    return c->err < 0 && c->manifest == NULL && c->desc == NULL;
}

void sp__candidate_ask(struct sp__search *s, const struct sp__search_dir *dir)
{
    for (struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        if (c->dir == dir && c->manifest == NULL) {
            sp__candidate_examine(c);
        }
    }
}

void sp__candidate_check_twin(const struct sp__search *s, struct sp__candidate *c)
{
    const char *name;
    sp_kind kind;

    for (const struct sp__candidate *other = s->candidates; c->err == SP_OK && other != NULL;
         other = other->next) {
        if (other == c || other->dir != c->dir || other->denied) {
            continue;
        }
        for (size_t i = 0; c->err == SP_OK && sp__candidate_claim(c, i, &kind, &name); i++) {
            if (sp__candidate_claims(other, kind, name)) {
                c->err = sp__why_set(&c->why, SP_EABI,
                                     "duplicate name: %s \"%s\" is in %s and in %s",
                                     sp__kind_name(kind), name, c->path, other->path);
            }
        }
    }
}
