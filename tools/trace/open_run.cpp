// SPDX-License-Identifier: Apache-2.0
// Reads and joins the files of a run, and tells the user what is missing.
#include "tools/trace/open_run.hpp"

#include "tools/common/people.hpp"

#include <utility>

namespace kvferry::tracing {

std::optional<opened_run> open_run(const std::string& path) {
    auto files = read_run(path);
    if (!files) {
        kvferry::tools::people_errors()
            << "kvferry trace: " << kvferry::text_of(files.error()) << "\n";
        return {};
    }
    for (const auto& problem : files->problems)
        kvferry::tools::people_errors() << "kvferry trace: " << problem << "\n";
    opened_run result{join(std::move(files->recordings)), std::move(files->problems)};
    if (const auto lost = result.joined.lost())
        kvferry::tools::people_errors()
            << "kvferry trace: " << lost << " events were overwritten before they were recorded\n";
    return result;
}

} // namespace kvferry::tracing
