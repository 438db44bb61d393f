// SPDX-License-Identifier: Apache-2.0
// What stands there in a build without libcurl.
#include "actors/spans/span_sender.hpp"
#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

struct span_sender::state {
    std::shared_ptr<span_queue> queue;
};

span_sender::span_sender(std::unique_ptr<state> x) : state_(std::move(x)) {}
span_sender::~span_sender() = default;

caf::expected<std::shared_ptr<span_sender>> span_sender::at(const std::string&) {
    return make_error(errc::unsupported,
                      "kvferry was built without libcurl or nlohmann_json, which spans need");
}

const std::shared_ptr<span_queue>& span_sender::queue() const {
    return state_->queue;
}

} // namespace kvferry
