// SPDX-License-Identifier: Apache-2.0
// A large value that may be missing, and whose copies are one until somebody changes his.
#pragma once

#include <caf/inspector_access.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace kvferry {

/// As std::optional, but copies share the value. Who reaches it through something that is not const
/// may change it, and first gets one of his own if it is shared: references to what he had before
/// then are to the others' value. Any thread may have a copy.
template <class T>
class shared_optional {
public:
    using value_type = T;

    shared_optional() = default;
    shared_optional(std::nullopt_t) {}
    shared_optional(T value) : held_(std::make_shared<T>(std::move(value))) {}
    shared_optional(std::optional<T> value) {
        if (value)
            held_ = std::make_shared<T>(std::move(*value));
    }

    bool has_value() const { return held_ != nullptr; }
    explicit operator bool() const { return has_value(); }

    const T& operator*() const { return *held_; }
    const T* operator->() const { return held_.get(); }
    T& operator*() { return own(); }
    T* operator->() { return &own(); }
    const T& value() const { return held_ ? *held_ : throw std::bad_optional_access{}; }

    T& emplace() {
        held_ = std::make_shared<T>();
        return *held_;
    }
    void reset() { held_.reset(); }

    /// The very same value, not just an equal one.
    bool shares(const shared_optional& other) const { return held_ == other.held_; }

    friend bool operator==(const shared_optional& a, const shared_optional& b) {
        return a.shares(b) || (a.held_ && b.held_ && *a.held_ == *b.held_);
    }

private:
    T& own() {
        if (held_.use_count() > 1)
            held_ = std::make_shared<T>(*held_);
        return *held_;
    }

    std::shared_ptr<T> held_;
};

} // namespace kvferry

namespace caf {

/// On the wire as std::optional.
template <class T>
struct inspector_access<kvferry::shared_optional<T>> {
    template <class Inspector>
    static bool apply(Inspector& f, kvferry::shared_optional<T>& x) {
        return f.object(x).fields(f.field("value", x));
    }

    template <class Inspector>
    static bool save_field(Inspector& f, string_view name, kvferry::shared_optional<T>& x) {
        auto is_present = [&x] { return x.has_value(); };
        // Whoever saves only reads: nobody needs a value of his own for it.
        auto get = [&x]() -> T& { return const_cast<T&>(*std::as_const(x)); };
        return detail::save_field(f, name, is_present, get);
    }

    template <class Inspector, class IsValid, class SyncValue>
    static bool load_field(Inspector& f, string_view name, kvferry::shared_optional<T>& x,
                           IsValid& is_valid, SyncValue& sync_value) {
        auto& value = x.emplace();
        auto reset = [&x] { x.reset(); };
        return detail::load_field(f, name, value, is_valid, sync_value, reset);
    }
};

} // namespace caf
