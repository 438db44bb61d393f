// SPDX-License-Identifier: Apache-2.0
// Reads the kernel's boot id.
#include "transport/same_host/machine_id.hpp"

#include <fstream>

namespace kvferry {

std::string machine_id() {
    std::ifstream file{"/proc/sys/kernel/random/boot_id"};
    std::string result;
    file >> result;
    return result;
}

} // namespace kvferry
