// SPDX-License-Identifier: Apache-2.0
// What a session tells its owner at the end of a turn: in one message, when it is over.
#pragma once

#include "messages/local/sessions.hpp"

#include <optional>
#include <utility>

namespace kvferry {

/// Most sessions begin, end and are released in one turn.
class owner_news {
public:
    void add(const session_transferring& x) { begun_ = x; }
    void add(session_ended x) { ended_ = std::move(x); }
    void add(session_retired x) { retired_ = std::move(x); }

    /// Calls tell(message) for what has been added since the last time.
    template <class Tell>
    void tell(Tell tell) {
        auto begun = std::exchange(begun_, {});
        auto ended = std::exchange(ended_, {});
        if (auto retired = std::exchange(retired_, {})) {
            retired->begun = begun;
            retired->ended = std::move(ended);
            return tell(std::move(*retired));
        }
        if (begun)
            tell(*begun);
        if (ended)
            tell(std::move(*ended));
    }

private:
    std::optional<session_transferring> begun_;
    std::optional<session_ended> ended_;
    std::optional<session_retired> retired_;
};

} // namespace kvferry
