"""Chats to texts and token ids with a tokenizer of transformers, for engines that run in this process."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from genprm.engines._common.model_files import reason_of
from genprm.engines._common.quiet import without_length_warning
from genprm.engines.base import Request
from genprm.errors import ContextOverflow, EngineRequestError

_PROMPTS_KEPT = 4096


class ChatTokenizer:
    """Renders requests with a model's own chat template and tokenises them.

    Args:
        tokenizer: of transformers.
        name: the model's, for messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = without_length_warning(tokenizer)
        self._name = name
        self._ids: OrderedDict[str, list[int]] = OrderedDict()

    def render(self, request: Request) -> str:
        """The exact text that the model continues: the chat in the model's template, then the prefix."""
        if request.prompt is not None:
            return request.prompt
        if not self._tokenizer.chat_template:
            raise EngineRequestError(
                f"the tokenizer of {self._name} has no chat template",
                hint="send a raw prompt, or save a chat template with the tokenizer",
            )
        turns = [{"role": message.role, "content": message.content} for message in request.messages]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=request.add_generation_prompt
            )
        except Exception as error:  # a template is a program that came with the model
            raise EngineRequestError(
                f"the chat template of {self._name} fails: {reason_of(error)}",
                hint="does it take the roles of this chat? mend chat_template.jinja or tokenizer_config.json",
            ) from error
        return rendered + request.prefix

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; the template wrote every special token that belongs there.

        Raises:
            EngineRequestError: the tokenizer cannot read it.
        """
        found = self._ids.get(text)
        if found is None:
            try:
                found = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            except Exception as error:  # of whatever kind the tokenizer's library raises
                raise EngineRequestError(
                    f"the tokenizer of {self._name} cannot read the prompt: {reason_of(error)}",
                    hint="does it hold half of a surrogate pair, which is no text?",
                ) from error
            self._ids[text] = found
            if len(self._ids) > _PROMPTS_KEPT:
                self._ids.popitem(last=False)
        return found

    def prompt(self, request: Request, limit: int) -> list[int]:
        """Token ids of a request that fits a context of `limit` tokens.

        Raises:
            EngineRequestError: an empty prompt or budget, a chat without a template, or a prompt that is no text.
            ContextOverflow: prompt and budget exceed the context.
        """
        ids = self.ids(self.render(request))
        if not ids:
            raise EngineRequestError("the prompt is empty", hint="send messages or a non-empty prompt")
        budget = request.params.max_tokens
        if budget < 1:
            raise EngineRequestError("max_tokens must be at least 1", hint="raise max_tokens")
        if len(ids) + budget > limit:
            raise ContextOverflow(
                f"a prompt of {len(ids)} tokens and a budget of {budget} exceed the context of "
                f"{limit} tokens of {self._name}",
                hint="shorten the prompt, lower max_tokens, or use a model with a longer context",
            )
        return ids
