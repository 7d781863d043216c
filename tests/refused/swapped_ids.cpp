// refused: could not convert|no known conversion|cannot convert
#include "../../ipc/wire/ids.hpp"

bool belongs(cleanfork::ipc::session_id session, cleanfork::ipc::child_id child);

bool swapped(cleanfork::ipc::session_id session, cleanfork::ipc::child_id child) {
    return belongs(child, session);
}
