/* SPDX-License-Identifier: MIT */
/// A shared object that is no plugin; with FIXTURE_NEEDS, one that needs a library which is.
#include <sp/types.h>

SP_API int sp_fixture_no_entry(void);

#ifdef FIXTURE_NEEDS
SP_API const void *sp_plugin_entry_v1(void);
SP_API const void *(*sp_fixture_foreign(void))(void);

const void *(*sp_fixture_foreign(void))(void)
{
    return sp_plugin_entry_v1;
}
#endif

int sp_fixture_no_entry(void)
{
    return 0;
}
