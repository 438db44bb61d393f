// SPDX-License-Identifier: Apache-2.0
// Kernel resources of this process, for tests that check that nothing is left behind.
#pragma once

#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>

namespace kvferry::testing {

/// Descriptors, and mappings of memfds.
struct resources {
    std::size_t descriptors = 0;
    std::size_t memfd_mappings = 0;

    friend bool operator==(const resources&, const resources&) = default;

    friend std::ostream& operator<<(std::ostream& out, const resources& x) {
        return out << x.descriptors << " descriptors, " << x.memfd_mappings
                   << " mappings of memfds";
    }
};

inline resources open_resources() {
    resources result;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
        ++result.descriptors;
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);)
        if (line.find("/memfd:") != std::string::npos)
            ++result.memfd_mappings;
    return result;
}

} // namespace kvferry::testing
