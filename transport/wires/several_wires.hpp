// SPDX-License-Identifier: Apache-2.0
// Several wires as one: each peer is reached by the first of them that leads to it.
#pragma once

#include "transport/fabric/wire.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kvferry {

/// A wire with the name under which the peer looks for its own: "tcp", "ucx".
struct named_wire {
    std::string name;
    std::unique_ptr<wire> below;
};

/// The most wires that an address may name.
inline constexpr std::size_t wires_max = 8;

/// At least one wire, the preferred one first. The address of the whole lists the address of each;
/// connect() takes the first wire that both sides have and whose own connect() succeeds at once,
/// and joins the reasons when none does. A wire whose connection breaks later is not replaced: the
/// link is lost, and dialled again. At most one of them may write into peers' memory by itself,
/// because an access key has room for one wire's key.
std::unique_ptr<wire> join_wires(std::vector<named_wire>);

} // namespace kvferry
