// SPDX-License-Identifier: Apache-2.0
// The hash behind rid_of.
#include "messages/values/request_id.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvferry {

rid rid_of(std::string_view request_name) {
    return {XXH3_64bits(request_name.data(), request_name.size()) >> 1};
}

} // namespace kvferry
