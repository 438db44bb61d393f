// SPDX-License-Identifier: Apache-2.0
// From a line to its handler.
#include "tools/demo/protocol.hpp"

#include "tools/common/text.hpp"

#include <stdexcept>

namespace kvferry::demo {

void line_handlers::handle(std::string_view line) const {
    std::string problem = "unknown kind";
    try {
        const auto parsed = nlohmann::json::parse(line);
        const auto found = handlers_.find(parsed.at("kind").get_ref<const std::string&>());
        if (found != handlers_.end()) {
            found->second(parsed.at("body"));
            return;
        }
    } catch (const nlohmann::json::exception& error) {
        problem = error.what();
    }
    throw std::runtime_error("not a message: " + quoted(line, 200) + ": " + problem);
}

} // namespace kvferry::demo
