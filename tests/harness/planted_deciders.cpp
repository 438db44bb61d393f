// SPDX-License-Identifier: Apache-2.0
// All values of a rank, each with the planted bug if that is one of its own.
#include "tests/harness/planted_deciders.hpp"

#include "tests/harness/planted_sending.hpp"
#include "tests/harness/planted_receiver.hpp"
#include "tests/harness/planted_receiving.hpp"

namespace kvferry::harness {

deciders_ptr planted_deciders() {
    auto result = std::make_shared<deciders>();
    plant_sending(*result);
    plant_receiver(*result);
    plant_receiving(*result);
    return result;
}

} // namespace kvferry::harness
