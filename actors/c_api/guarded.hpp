// SPDX-License-Identifier: Apache-2.0
// The edge of the C ABI: what is thrown inside becomes a number and a text outside.
#pragma once

#include "actors/host/process_life.hpp"
#include "messages/values/error_format.hpp"

#include <exception>
#include <new>
#include <string>
#include <utility>

namespace kvferry::c_api {

/// A call that ends here, with its reason.
struct refusal {
    caf::error reason;
};

template <class... Args>
[[noreturn]] void refuse(errc code, fmt::format_string<Args...> text, Args&&... args) {
    throw refusal{make_error(code, fmt::format(text, std::forward<Args>(args)...))};
}

inline void refuse_if(const caf::error& problem) {
    if (problem)
        throw refusal{problem};
}

template <class T>
T value_of(caf::expected<T> result) {
    if (!result)
        throw refusal{std::move(result.error())};
    return std::move(*result);
}

/// Text of this thread's last call; empty after success.
std::string& last_error() noexcept;

/// Number of this failure; its text is kept for the thread.
int fail(errc code, std::string text) noexcept;

/// Every call of the ABI that can fail: nothing is thrown across the edge, and a forked child gets
/// no further, since locks of its parent may be held for ever.
template <class Call>
int guarded(Call call) noexcept {
    try {
        last_error().clear();
        refuse_if(process_life::check());
        call();
        return 0;
    } catch (const refusal& refused) {
        return fail(code_of(refused.reason), text_of(refused.reason));
    } catch (const std::bad_alloc&) {
        return fail(errc::limit_exceeded, "out of memory");
    } catch (const std::exception& thrown) {
        return fail(errc::handler_failed, thrown.what());
    } catch (...) {
        return fail(errc::handler_failed, "an exception of unknown type");
    }
}

} // namespace kvferry::c_api
