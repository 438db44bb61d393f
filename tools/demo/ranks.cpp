// SPDX-License-Identifier: Apache-2.0
// The grammar of "tp=2,pp=1".
#include "tools/demo/ranks.hpp"

#include <charconv>
#include <stdexcept>
#include <utility>

namespace kvferry::demo {
namespace {

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
    throw std::invalid_argument("'" + std::string(text) + "': " + why
                                + "; write for example tp=2 or tp=2,pp=2");
}

} // namespace

engine::parallelism parse_ranks(std::string_view text) {
    std::size_t tp_size = 0; // 0: not given
    std::size_t pp_size = 0;
    bool attention_dp = false;
    bool attention_dp_given = false;
    for (std::size_t begin = 0; begin <= text.size();) {
        const auto end = std::min(text.find(',', begin), text.size());
        const auto part = text.substr(begin, end - begin);
        begin = end + 1;
        const auto key = part.substr(0, part.find('='));
        if (part == "adp=0" || part == "adp=1") {
            if (std::exchange(attention_dp_given, true))
                refuse(text, "adp is given twice");
            attention_dp = part == "adp=1";
            continue;
        }
        if (key.size() == part.size() || (key != "tp" && key != "pp"))
            refuse(text, "'" + std::string(part) + "' is neither tp=<ranks> nor pp=<stages>");
        const auto digits = part.substr(key.size() + 1);
        std::size_t value = 0;
        const auto [stop, problem] =
            std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (problem != std::errc{} || stop != digits.data() + digits.size() || value == 0
            || value > ranks_max)
            refuse(text, std::string(key) + " is '" + std::string(digits)
                             + "', it must be a number from 1 to " + std::to_string(ranks_max));
        auto& size = key == "tp" ? tp_size : pp_size;
        if (size != 0)
            refuse(text, std::string(key) + " is given twice");
        size = value;
    }
    const engine::parallelism result{std::max<std::size_t>(tp_size, 1),
                                     std::max<std::size_t>(pp_size, 1), attention_dp};
    if (result.ranks() > ranks_max)
        refuse(text, "tp x pp is " + std::to_string(result.ranks()) + " ranks, at most "
                         + std::to_string(ranks_max) + " fit one side of the demo");
    return result;
}

std::string to_string(const engine::parallelism& ranks) {
    return "tp=" + std::to_string(ranks.tp_size) + ",pp=" + std::to_string(ranks.pp_size)
           + (ranks.attention_dp ? ",adp=1" : "");
}

} // namespace kvferry::demo
