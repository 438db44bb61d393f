// SPDX-License-Identifier: Apache-2.0
// The answers that sending_table_test asks for.
#pragma once

#include <string_view>
#include <vector>

namespace kvferry::testing {

struct sending_answer {
    std::vector<std::string_view> states;
    std::string_view effects;
};

struct sending_row {
    std::string_view event;
    std::vector<sending_answer> answers;
};

extern const std::vector<sending_row> sending_table;

} // namespace kvferry::testing
