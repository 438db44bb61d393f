// SPDX-License-Identifier: Apache-2.0
// All values of a rank, each with the planted bug if that is one of its own.
#include "tests/harness/planted/planted_deciders.hpp"

#include "tests/harness/planted/planted_links.hpp"
#include "tests/harness/planted/planted_receiver.hpp"
#include "tests/harness/planted/planted_receiving.hpp"
#include "tests/harness/planted/planted_sending.hpp"

namespace kvferry::harness {

deciders_ptr planted_deciders() {
    auto result = std::make_shared<deciders>();
    plant_sending(*result);
    plant_receiver(*result);
    plant_receiving(*result);
    plant_in_links(planted_now, *result);
    return result;
}

limits planted_server_limits(limits bounds) {
    return limits_of_servers(planted_now, bounds);
}

} // namespace kvferry::harness
