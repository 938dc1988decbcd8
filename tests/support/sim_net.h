/* SPDX-License-Identifier: MIT */
/// A simulated transport, "sim://NAME": connections between sockets of one simulated process whose
/// messages are delayed and whose connections are refused and cut, as the seed says. Uses the
/// plugin ABI alone; one thread.
#ifndef SP_TEST_SIM_NET_H
#define SP_TEST_SIM_NET_H

#include <sp/plugin.h>

struct sim_net {
    unsigned delay_ms; ///< a message takes 0…delay_ms
    unsigned refuse;   ///< of 1000 dials are refused
    unsigned cut;      ///< of 1000 writes cut the connection
    unsigned choke;    ///< of 1000 writes take only a part
    uint64_t lost;     ///< messages that were written and lost by a cut
    uint64_t carried;  ///< messages that arrived
};

extern struct sim_net sim_net;

/// Registers it (sp__registry_add).
const sp_plugin *sim_net_entry(void);

#endif
