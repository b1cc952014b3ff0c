from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.forms import UserCreationForm

from .models import Article


class ArticleForm(forms.ModelForm):
    class Meta:
        model = Article
        fields = ("title", "body", "tags")
        widgets = {"body": forms.Textarea(attrs={"rows": 20})}
        labels = {"body": "Text"}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["tags"].required = False

    def clean(self):
        cleaned_data = super().clean()
        if cleaned_data.get("title") == cleaned_data.get("body"):
            self.add_error("body", "Write more than the title.")
        return cleaned_data


class JoinForm(UserCreationForm):
    email = forms.EmailField(required=True)

    class Meta(UserCreationForm.Meta):
        model = get_user_model()
        fields = ("username", "email")

    def save(self, commit=True):
        user = super().save(commit=False)
        user.email = self.cleaned_data["email"]
        if commit:
            user.save()
        return user


class ContactForm(forms.Form):
    message = forms.CharField(widget=forms.Textarea)
    sender = forms.EmailField()

    def send_email(self):
        return self.cleaned_data["sender"]
