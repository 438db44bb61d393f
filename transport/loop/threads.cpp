// SPDX-License-Identifier: Apache-2.0
// There is no other way to know than to try.
#include "transport/loop/threads.hpp"

#include "transport/loop/system_call.hpp"

#include <cerrno>
#include <future>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace kvferry {

caf::expected<std::thread> make_thread(std::string_view what, std::function<void()> run) {
    try {
        if (made_to_fail("thread"))
            throw std::system_error{errno, std::generic_category()};
        return std::thread{std::move(run)};
    } catch (const std::system_error& error) {
        return system_error(errc::system_call_failed, "thread of " + std::string{what},
                            error.code().value(), more_threads);
    }
}

caf::error check_threads(std::string_view what, std::size_t count) {
    std::promise<void> let_go;
    const auto until = let_go.get_future().share();
    caf::error result;
    std::vector<std::thread> all;
    while (all.size() < count && !result) {
        auto made = make_thread(what, [until] { until.wait(); });
        if (made)
            all.push_back(std::move(*made));
        else
            result = std::move(made.error());
    }
    let_go.set_value();
    for (auto& thread : all)
        thread.join();
    return result;
}

} // namespace kvferry
