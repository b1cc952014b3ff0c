from django import forms

from .models import Question


class QuestionForm(forms.ModelForm):
    class Meta:
        model = Question
        fields = ["text", "published"]

    def clean_text(self):
        text = self.cleaned_data["text"]
        if not text.endswith("?"):
            raise forms.ValidationError("A question ends with a question mark.")
        return text
