// SPDX-License-Identifier: Apache-2.0
// The host's handles: numbers in the shape of pointers, never used twice, never followed. So a call
// with a handle that was freed is an error, whatever else happens at the same time.
#pragma once

#include "actors/c_api/guarded.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kvferry::c_api {

/// The next number, of whatever kind.
inline std::uint64_t next_handle() {
    static constinit std::atomic<std::uint64_t> last{0};
    return ++last;
}

template <class Handle>
Handle* as_handle(std::uint64_t number) {
    static_assert(sizeof(Handle*) == sizeof number);
    return reinterpret_cast<Handle*>(static_cast<std::uintptr_t>(number));
}

/// All objects of one kind. Thread-safe.
template <class Handle, class Object>
class handle_table {
public:
    explicit handle_table(const char* kind) : kind_(kind) {}

    std::uint64_t add(std::shared_ptr<Object> object, std::uint64_t number = next_handle()) {
        std::lock_guard lock{mutex_};
        objects_.emplace(number, std::move(object));
        return number;
    }

    /// The object lives at least as long as the result.
    std::shared_ptr<Object> find(const Handle* handle) const {
        std::lock_guard lock{mutex_};
        return objects_.at(found(handle));
    }

    std::shared_ptr<Object> remove(const Handle* handle) {
        std::lock_guard lock{mutex_};
        auto object = std::move(objects_.extract(found(handle)).mapped());
        return object;
    }

    template <class Predicate>
    std::vector<std::shared_ptr<Object>> all_where(Predicate is) const {
        std::vector<std::shared_ptr<Object>> result;
        std::lock_guard lock{mutex_};
        for (const auto& [number, object] : objects_)
            if (is(*object))
                result.push_back(object);
        return result;
    }

    /// The objects end after the lock is free.
    template <class Predicate>
    std::vector<std::shared_ptr<Object>> remove_where(Predicate is) {
        std::vector<std::shared_ptr<Object>> result;
        std::lock_guard lock{mutex_};
        std::erase_if(objects_, [&](auto& each) {
            const bool matches = is(*each.second);
            if (matches)
                result.push_back(each.second);
            return matches;
        });
        return result;
    }

private:
    std::uint64_t found(const Handle* handle) const {
        if (!handle)
            refuse(errc::invalid_argument, "the {} is NULL", kind_);
        const auto number = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(handle));
        if (!objects_.contains(number))
            refuse(errc::gone, "this {} was freed", kind_);
        return number;
    }

    const char* kind_;
    mutable std::mutex mutex_;
    std::unordered_map<std::uint64_t, std::shared_ptr<Object>> objects_;
};

} // namespace kvferry::c_api
