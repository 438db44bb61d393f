// SPDX-License-Identifier: Apache-2.0
// The number comes from the project() line of the build.
#include "messages/version.hpp"

namespace kvferry {

std::string_view version() noexcept {
    return KVFERRY_VERSION;
}

} // namespace kvferry
